# The launcher of sandboxes: a unit of its own, with what bubblewrap needs and neither network nor secrets. systemd starts
# it for each connection to its socket, which only the gateway's user can open, and it ends with the connection.
{ config, lib, ... }:
let
  cfg = config.services.carrel;
  state = toString cfg.stateDir;
in
{
  config = lib.mkIf cfg.enable {
    # Debian-like kernels have a switch of their own for what bubblewrap rests on.
    security.unprivilegedUsernsClone = lib.mkDefault true;

    systemd.sockets.carrel-launcher = {
      description = "Carrel launcher of sandboxes, where the gateway reaches it";
      wantedBy = [ "sockets.target" ];
      socketConfig = {
        ListenSequentialPacket = "/run/carrel-launcher.sock";
        SocketUser = cfg.user;
        SocketGroup = cfg.group;
        SocketMode = "0600";
        Accept = true;
        MaxConnections = 16;
        RemoveOnStop = true;
      };
    };

    systemd.services."carrel-launcher@" = {
      description = "Carrel launcher of sandboxes";
      # It ends with its connection: a switch leaves it alone, and a new gateway has a new one.
      restartIfChanged = false;
      unitConfig.CollectMode = "inactive-or-failed";
      serviceConfig = {
        Type = "exec";
        ExecStart = "${cfg.package}/bin/carrel-launcher";
        User = cfg.user;
        Group = cfg.group;
        StandardInput = "null";
        StandardOutput = "journal";
        StandardError = "journal";
        UMask = "0077";
        LimitNOFILE = 524288;
        TasksMax = 16384;
        # It stops when its connection does; what is left of a sandbox dies with it.
        KillMode = "mixed";
        TimeoutStopSec = 15;
        Slice = "carrel.slice";
        CPUWeight = cfg.resources.sandboxCpuWeight;
        OOMPolicy = "continue";
        # Each sandbox has a cgroup of its own beneath this unit's, in that of its tenant.
        Delegate = "cpu io memory pids";
        DelegateSubgroup = "gateway";

        PrivateNetwork = true;
        CapabilityBoundingSet = "";
        AmbientCapabilities = "";
        NoNewPrivileges = true;
        ProtectSystem = "strict";
        ProtectHome = true;
        PrivateTmp = true;
        PrivateDevices = true;
        PrivateIPC = true;
        PrivateUsers = true;
        ProtectKernelLogs = true;
        PrivateMounts = true;
        IPAddressDeny = "any";
        ProtectClock = true;
        ProtectKernelModules = true;
        LockPersonality = true;
        RestrictRealtime = true;
        RestrictSUIDSGID = true;
        RemoveIPC = true;
        KeyringMode = "private";
        SystemCallArchitectures = "native";
        SystemCallFilter = [ "~@clock @cpu-emulation @debug @module @obsolete @raw-io @reboot @swap" ];
        SystemCallErrorNumber = "EPERM";
        RestrictAddressFamilies = [
          "AF_UNIX"
          "AF_INET"
          "AF_INET6"
          "AF_NETLINK"
        ];
        # The kinds that bubblewrap makes. `yes` would leave no sandbox at all.
        RestrictNamespaces = [
          "user"
          "mnt"
          "pid"
          "net"
          "ipc"
          "uts"
          "cgroup"
        ];
        # Workspaces and closures are in the state; what else is there, and every secret, is not for it.
        ReadWritePaths = [
          state
          "-/run/carrel"
        ];
        InaccessiblePaths = [
          "-${state}/audit"
          "-${state}/run"
          "-${state}/git"
          "-${state}/master.key"
          "-${state}/audit-signing-key"
          "-/run/credentials"
          "-/run/secrets"
          "-/run/keys"
          "-/etc/ssh"
          "-/nix/var"
        ];
        # bubblewrap reads and writes in /proc/sys, and the launcher looks at processes of sandboxes:
        ProtectKernelTunables = false;
        ProtectProc = "default";
        ProcSubset = "all";
        # Sandboxes have a host name of their own, and groups of their own.
        ProtectHostname = false;
        ProtectControlGroups = false;
        # Inherited by what runs in sandboxes, where it would break every just-in-time compiler.
        MemoryDenyWriteExecute = false;
      };
    };
  };
}
