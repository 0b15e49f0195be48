# The unit that runs the gateway, the socket that outlives it, and its user.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.carrel;
  inHouse = toString cfg.stateDir == "/var/lib/carrel";
  # A directory in the state is the state's; one of the configuration is read through /etc.
  outside = lib.optional (cfg.declarations == null && !cfg.git.enable) (toString cfg.tenantsDir);
  # Where backups are, as far as that is a directory of the host.
  local = builtins.filter (path: path != null && lib.hasPrefix "file://" path) [
    cfg.backup.target
    cfg.restore.from
  ];
  writable = outside ++ cfg.backup.directories ++ map (lib.removePrefix "file://") local;
  host =
    if lib.hasInfix ":" cfg.listen.address then "[${cfg.listen.address}]" else cfg.listen.address;
  socket = "carrel-${
    builtins.replaceStrings [ ":" "%" ] [ "-" "-" ] cfg.listen.address
  }-${toString cfg.listen.port}";
  credentials =
    encrypted:
    lib.mapAttrsToList (name: secret: "${name}:${secret.file}") (
      lib.filterAttrs (_: secret: secret.encrypted == encrypted) cfg.secrets
    );
in
{
  options.services.carrel.unit = lib.mkOption {
    type = lib.types.attrsOf lib.types.anything;
    internal = true;
    description = "What the gateway's unit has in common with others that run a gateway for a while.";
    example = { };
  };

  config = lib.mkIf cfg.enable {
    users.users = lib.mkIf (cfg.user == "carrel") {
      carrel = {
        isSystemUser = true;
        group = cfg.group;
        home = toString cfg.stateDir;
        description = "Carrel gateway";
      };
    };
    users.groups = lib.mkIf (cfg.group == "carrel") { carrel = { }; };
    environment.systemPackages = [ cfg.package ];
    environment.variables.CARREL_STATE_DIR = toString cfg.stateDir;
    networking.firewall.allowedTCPPorts = lib.mkIf (cfg.openFirewall && !cfg.tls.enable) [
      cfg.listen.port
    ];

    services.carrel.unit = {
      environment = {
        CARREL_NIXPKGS = cfg.nixpkgs;
        HOME = toString cfg.stateDir;
        # What the gateway makes for a sandbox must be where the launcher sees it too.
        TMPDIR = "/run/carrel";
      };
      serviceConfig = {
        User = cfg.user;
        Group = cfg.group;
        LoadCredential = credentials false;
        LoadCredentialEncrypted = credentials true;
        RuntimeDirectory = "carrel";
        RuntimeDirectoryMode = "0700";
        KillMode = "mixed";
        UMask = "0077";
        LimitNOFILE = 524288;
        TasksMax = 4096;
        Slice = "carrel.slice";
        OOMPolicy = "continue";
        # A sandbox that ran out of memory is no reason to stop the gateway, which is the last to go.
        OOMScoreAdjust = -500;

        # What sandboxes need is in the launcher's unit. This one opens files, sockets and other programs, and no more.
        CapabilityBoundingSet = "";
        AmbientCapabilities = "";
        NoNewPrivileges = true;
        ProtectSystem = "strict";
        ProtectHome = true;
        PrivateTmp = true;
        PrivateDevices = true;
        DevicePolicy = "closed";
        PrivateUsers = true;
        PrivateIPC = true;
        PrivateMounts = true;
        ProtectClock = true;
        ProtectHostname = true;
        ProtectControlGroups = true;
        ProtectKernelModules = true;
        ProtectKernelTunables = true;
        ProtectKernelLogs = true;
        ProtectProc = "invisible";
        ProcSubset = "pid";
        LockPersonality = true;
        MemoryDenyWriteExecute = true;
        RestrictRealtime = true;
        # It would refuse openat2, by which every path of a tenant is opened. Without a capability no file becomes root's.
        RestrictSUIDSGID = false;
        RemoveIPC = true;
        KeyringMode = "private";
        SystemCallArchitectures = "native";
        SystemCallFilter = [
          "@system-service"
          "~@privileged @resources"
        ];
        SystemCallErrorNumber = "EPERM";
        RestrictAddressFamilies = [
          "AF_UNIX"
          "AF_INET"
          "AF_INET6"
        ];
        RestrictNamespaces = true;
        InaccessiblePaths = [
          "-/run/secrets"
          "-/run/keys"
        ];
      }
      // (
        if inHouse then
          {
            StateDirectory = "carrel";
            StateDirectoryMode = "0700";
            ReadWritePaths = map (path: "-${path}") writable;
          }
        else
          { ReadWritePaths = [ (toString cfg.stateDir) ] ++ map (path: "-${path}") writable; }
      )
      // (
        if cfg.hardening.gatewayBuilds then
          {
            # Nix in a store of its own makes namespaces and mounts for each build, and covers nothing of /proc.
            RestrictNamespaces = [
              "user"
              "mnt"
              "pid"
              "net"
              "ipc"
              "uts"
            ];
            SystemCallFilter = [
              "@system-service"
              "@mount"
              "sethostname"
              "~@resources"
            ];
            PrivateUsers = false;
            ProtectKernelTunables = false;
            ProtectKernelLogs = false;
            ProtectProc = "default";
            ProcSubset = "all";
          }
        else
          { }
      );
    };

    systemd.slices.carrel = {
      description = "Carrel: the gateway and all sandboxes";
      sliceConfig = {
        CPUWeight = cfg.resources.cpuWeight;
      }
      // (if cfg.resources.memoryMax != null then { MemoryMax = cfg.resources.memoryMax; } else { });
    };

    # systemd holds what listens. While one gateway drains and the next starts, connections wait in it and are not refused.
    # A switch leaves a socket that is there alone, whatever was changed of it: one for another address is another unit. So
    # the old address is closed, and the new one open, when the switch is over.
    systemd.sockets.${socket} = {
      description = "Carrel gateway, where it is reached";
      aliases = [ "carrel.socket" ];
      wantedBy = [ "sockets.target" ];
      # What follows a percent sign means something to systemd.
      listenStreams = [
        "${builtins.replaceStrings [ "%" ] [ "%%" ] host}:${toString cfg.listen.port}"
      ];
      socketConfig = {
        NoDelay = true;
        Backlog = 4096;
        Service = "carrel.service";
      };
    };

    systemd.services.carrel = {
      description = "Carrel gateway";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      requires = [
        "${socket}.socket"
        "carrel-launcher.socket"
      ];
      after = [
        "network-online.target"
        "${socket}.socket"
        "carrel-launcher.socket"
      ];
      environment = cfg.unit.environment;
      # Restarted and not stopped and started: the socket stays, and so does the old gateway until all is in place.
      stopIfChanged = false;
      reloadTriggers =
        lib.optional (cfg.declarations != null) cfg.declarations
        ++ lib.optional (
          config.environment.etc ? "carrel/packages.json"
        ) config.environment.etc."carrel/packages.json".source;
      unitConfig.RequiresMountsFor = [ (toString cfg.stateDir) ] ++ outside;
      serviceConfig = cfg.unit.serviceConfig // {
        Type = "notify";
        NotifyAccess = "main";
        ExecStart = "${cfg.package}/bin/carrel gateway --host ${cfg.hostFile}";
        ExecReload = "${cfg.package}/bin/carrel reconcile --state-dir ${toString cfg.stateDir}";
        WatchdogSec = cfg.watchdogSeconds;
        Restart = "on-failure";
        RestartSec = 2;
        TimeoutStartSec = 300;
        TimeoutStopSec = cfg.drainSeconds + 30;
      };
    };

    systemd.tmpfiles.rules = lib.optional (
      !inHouse
    ) "d ${toString cfg.stateDir} 0700 ${cfg.user} ${cfg.group} -";
  };
}
