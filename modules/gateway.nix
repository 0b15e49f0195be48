# The unit that runs the gateway, and its user.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.carrel;
  inHouse = cfg.stateDir == "/var/lib/carrel";
  host = if lib.hasInfix ":" cfg.listen.address then "[${cfg.listen.address}]" else cfg.listen.address;
in
{
  config = lib.mkIf cfg.enable {
    users.users = lib.mkIf (cfg.user == "carrel") {
      carrel = { isSystemUser = true; group = cfg.group; home = cfg.stateDir; description = "Carrel gateway"; };
    };
    users.groups = lib.mkIf (cfg.group == "carrel") { carrel = { }; };
    environment.systemPackages = [ cfg.package ];
    environment.variables.CARREL_STATE_DIR = cfg.stateDir;
    networking.firewall.allowedTCPPorts = lib.mkIf cfg.openFirewall [ cfg.listen.port ];
    security.unprivilegedUsernsClone = lib.mkDefault true;

    systemd.services.carrel = {
      description = "Carrel gateway";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];
      environment = { CARREL_NIXPKGS = cfg.nixpkgs; HOME = cfg.stateDir; };
      unitConfig.RequiresMountsFor = [ cfg.stateDir cfg.tenantsDir ];
      serviceConfig = {
        ExecStart = lib.escapeShellArgs ([
          "${cfg.package}/bin/carrel" "gateway"
          (if cfg.requireClosure then "--no-trial" else "--trial")
          "--listen" "${host}:${toString cfg.listen.port}"
          "--tenants-dir" cfg.tenantsDir
          "--state-dir" cfg.stateDir
          "--log-level" cfg.settings.logLevel
        ] ++ lib.optional cfg.settings.logJson "--log-json" ++ cfg.settings.extraArguments);
        User = cfg.user;
        Group = cfg.group;
        LoadCredential = lib.mapAttrsToList (name: secret: "${name}:${secret.file}") cfg.secrets;
        Restart = "on-failure";
        RestartSec = 2;
        # It drains for two seconds; what is left of a sandbox dies with its launcher.
        TimeoutStopSec = 15;
        KillMode = "mixed";
        UMask = "0077";
        LimitNOFILE = 524288;
        TasksMax = 16384;
        # Each sandbox has a cgroup of its own beneath this unit's, in that of its tenant.
        Delegate = "cpu io memory pids";
        DelegateSubgroup = "gateway";
        Slice = "carrel.slice";
        CPUWeight = cfg.resources.cpuWeight;
        # A sandbox that ran out of memory is no reason to stop the gateway, which is the last to go.
        OOMPolicy = "continue";
        OOMScoreAdjust = -500;

        CapabilityBoundingSet = "";
        AmbientCapabilities = "";
        NoNewPrivileges = true;
        ProtectSystem = "strict";
        ProtectHome = true;
        PrivateTmp = true;
        PrivateDevices = true;
        ProtectClock = true;
        ProtectHostname = true;
        ProtectKernelModules = true;
        LockPersonality = true;
        RestrictRealtime = true;
        RestrictSUIDSGID = true;
        RemoveIPC = true;
        SystemCallArchitectures = "native";
        RestrictAddressFamilies = [ "AF_UNIX" "AF_INET" "AF_INET6" "AF_NETLINK" ];
        # The kinds that bubblewrap makes. `yes` would leave no sandbox at all.
        RestrictNamespaces = [ "user" "mnt" "pid" "net" "ipc" "uts" "cgroup" ];
        # Left as they are, for each of them covers a part of /proc, and the kernel then lets no sandbox mount its own:
        ProtectKernelTunables = false;
        ProtectKernelLogs = false;
        ProtectProc = "default";
        ProcSubset = "all";
        # Inherited by what runs in sandboxes, where it would break every just-in-time compiler.
        MemoryDenyWriteExecute = false;
      }
      // (if cfg.resources.memoryMax != null then { MemoryMax = cfg.resources.memoryMax; } else { })
      // (if inHouse then { StateDirectory = "carrel"; StateDirectoryMode = "0700"; ReadWritePaths = [ "-${cfg.tenantsDir}" ]; }
          else { ReadWritePaths = [ cfg.stateDir "-${cfg.tenantsDir}" ]; });
    };

    systemd.tmpfiles.rules = lib.optional (!inHouse) "d ${cfg.stateDir} 0700 ${cfg.user} ${cfg.group} -";
  };
}
