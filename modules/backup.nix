# Backups by the calendar, and the way back: a machine that begins with nothing is filled from them before it is reached.
{ config, lib, ... }:
let
  cfg = config.services.carrel;
  inherit (lib) mkOption literalExpression types;
  state = toString cfg.stateDir;
  carrel = "${cfg.package}/bin/carrel";
  place = types.strMatching "(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]|file:///)[A-Za-z0-9!_.*()/-]*";
  counts = lib.filterAttrs (_: count: count != null) cfg.backup.retention;
  to =
    lib.optionalString (cfg.backup.target != null) " --to ${cfg.backup.target}"
    +
      lib.optionalString (counts != { })
        " --keep ${
           builtins.concatStringsSep "," (lib.mapAttrsToList (name: count: "${name}=${toString count}") counts)
         }"
    + lib.optionalString cfg.backup.verify " --verify";
  count =
    least: otherwise: description:
    mkOption {
      type = types.nullOr (types.ints.between least 1000);
      default = null;
      description = ''
        ${description} One that is kept for any reason stays, the others are removed after each backup; what a tenant's own
        file says (`backup: {keep: …}`) goes first. `null`: ${toString otherwise}, or, where nothing of `retention` is set,
        as `_gateway.yaml` says.
      '';
      example = 30;
    };

  # What is begun and breaks off goes on at the next start: the command keeps a note of it in the state.
  bringBack =
    "${carrel} restore --host ${cfg.hostFile} --when ${
      if cfg.restore.when == "missing" then "empty" else "first"
    }"
    + lib.optionalString (cfg.restore.from != null) " --from ${cfg.restore.from}";
in
{
  options.services.carrel = {
    backup = {
      schedule = mkOption {
        type = types.nullOr types.str;
        default = null;
        description = ''
          When all tenants are backed up, as systemd.time(7) writes it. `null`: as `backup: {every_seconds: …}` of
          `_gateway.yaml` says, which spreads them. What is backed up, and with which keys, is said there.
        '';
        example = "*-*-* 03:30:00";
      };
      target = mkOption {
        type = types.nullOr place;
        default = null;
        description = "Where to: `s3://BUCKET/PREFIX` or `file:///DIRECTORY`. `null`: where `_gateway.yaml` says.";
        example = "s3://backups/carrel";
      };
      # Which of them stay. One that is kept for any reason does.
      retention = {
        last = count 1 3 "How many of the newest backups that `schedule` makes stay.";
        daily = count 0 7 "Of how many days (UTC) the newest one stays.";
        weekly = count 0 4 "Of how many ISO weeks the newest one stays.";
        monthly = count 0 12 "Of how many months the newest one stays.";
      };
      verify = mkOption {
        type = types.bool;
        default = false;
        description = ''
          Whether each backup that `schedule` makes is read back at once, all of it: one that is not whole fails the unit.
          Now and then, and whoever made them, backups are read back by `backup: {verify_every_seconds: …}` of
          `_gateway.yaml`.
        '';
        example = true;
      };
      directories = mkOption {
        type = types.listOf types.str;
        default = [ ];
        description = ''
          Directories of the host that the gateway may write besides its state, for backups to `file:///DIRECTORY` that
          `_gateway.yaml` names. Those of `target` and of `restore.from` are among them by themselves.
        '';
        example = [ "/mnt/backups" ];
      };
      randomizedDelay = mkOption {
        type = types.str;
        default = "10min";
        description = "By how much the time is varied, so that a fleet does not begin at once.";
        example = "1h";
      };
    };
    restore = {
      from = mkOption {
        type = types.nullOr place;
        default = null;
        description = ''
          Where backups are that a machine without state begins with. Each declared tenant that has one there is restored,
          verified, before the gateway is reached; a failure keeps the gateway from starting, for one that begins with less
          than it had would be worse. Where declarations are pushed nobody is declared yet on such a machine: the gateway
          starts, and what the first push declares comes into force when all of it is brought back. `null`: nothing is
          restored by itself.
        '';
        example = "s3://backups/carrel";
      };
      when = mkOption {
        type = types.enum [
          "first-boot"
          "missing"
        ];
        default = "first-boot";
        description = "`first-boot`: once, where there is no state yet. `missing`: at each start, each tenant that has no state.";
        example = "missing";
      };
    };
  };

  config = lib.mkIf cfg.enable {
    systemd.services.carrel-backup = lib.mkIf (cfg.backup.schedule != null) {
      description = "Carrel: a backup of every tenant";
      after = [ "carrel.service" ];
      requisite = [ "carrel.service" ];
      # A switch that comes meanwhile does not wait for another round of them.
      restartIfChanged = false;
      serviceConfig = {
        Type = "oneshot";
        ExecStart = "${carrel} backup all --state-dir ${state}${to}";
        User = cfg.user;
        Group = cfg.group;
        Slice = "carrel.slice";
        # It asks the gateway, over its socket, and does nothing else. The keys are the gateway's.
        PrivateNetwork = true;
        IPAddressDeny = "any";
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
        ProtectKernelTunables = true;
        ProtectKernelModules = true;
        ProtectKernelLogs = true;
        ProtectControlGroups = true;
        ProtectProc = "invisible";
        ProcSubset = "pid";
        LockPersonality = true;
        MemoryDenyWriteExecute = true;
        RestrictRealtime = true;
        RestrictSUIDSGID = true;
        RemoveIPC = true;
        KeyringMode = "private";
        RestrictNamespaces = true;
        RestrictAddressFamilies = [ "AF_UNIX" ];
        SystemCallArchitectures = "native";
        SystemCallFilter = [
          "@system-service"
          "~@privileged @resources"
        ];
        SystemCallErrorNumber = "EPERM";
        InaccessiblePaths = [
          "-/run/credentials"
          "-/run/secrets"
          "-/run/keys"
          "-${state}/tenants"
        ];
        UMask = "0077";
        TimeoutStartSec = "infinity";
      };
    };
    systemd.timers.carrel-backup = lib.mkIf (cfg.backup.schedule != null) {
      description = "Carrel: when tenants are backed up";
      wantedBy = [ "timers.target" ];
      timerConfig = {
        OnCalendar = cfg.backup.schedule;
        RandomizedDelaySec = cfg.backup.randomizedDelay;
        # A night that the machine slept through is made up for.
        Persistent = true;
      };
    };

    systemd.services.carrel-restore = lib.mkIf (cfg.restore.from != null) {
      description = "Carrel: what a machine without state begins with";
      requiredBy = [ "carrel.service" ];
      before = [ "carrel.service" ];
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];
      unitConfig.RequiresMountsFor = [ state ];
      # Once for a boot: a switch does not bring anybody back.
      restartIfChanged = false;
      environment = cfg.unit.environment;
      # As the gateway, which it is.
      serviceConfig = cfg.unit.serviceConfig // {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = bringBack;
        TimeoutStartSec = "infinity";
      };
    };
  };
}
