# The gateway's settings: one JSON document, judged by the gateway's own model when the system is built.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.carrel;
  inherit (lib) mkOption literalExpression types;
  json = pkgs.formats.json { };
  inStore = path: builtins.isPath path || lib.hasPrefix builtins.storeDir (toString path);
  declared = if builtins.isPath cfg.tenantsDir then "${cfg.tenantsDir}" else toString cfg.tenantsDir;
  canRun = pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform;
  written = json.generate "carrel-host.json" cfg.settings;
  # What a bad setting fails is this derivation, and with it the switch.
  judged = pkgs.runCommand "carrel-host.json" { } ''
    ${cfg.package}/bin/carrel check --host ${written} ${
      lib.optionalString (cfg.declarations != null) cfg.declarations
    } >&2
    cp ${written} $out
  '';
in
{
  options.services.carrel = {
    settings = mkOption {
      type = types.submodule {
        freeformType = json.type;
        options = {
          log.level = mkOption {
            type = types.enum [
              "debug"
              "info"
              "warning"
              "error"
            ];
            default = "info";
            description = "The least that is logged.";
            example = "warning";
          };
          log.json_lines = mkOption {
            type = types.bool;
            default = true;
            description = "Whether log lines are JSON.";
            example = false;
          };
          listen.names = mkOption {
            type = types.listOf types.str;
            default = [ ];
            description = ''
              Host names that the gateway answers for beside those of loopback: the names under which a proxy of your own
              passes requests on. `tls.domain` is among them by itself.
            '';
            example = [ "agents.example.org" ];
          };
        };
      };
      default = { };
      description = ''
        What the gateway process is told, as one JSON document. All other options end here, and what is set here wins over
        them. `carrel check --host` judges it when the system is built: an unknown key or a wrong value fails the build,
        with the key's path, what is allowed, and the nearest name.
      '';
      example = literalExpression ''{ log.level = "warning"; }'';
    };

    hostFile = mkOption {
      type = types.package;
      internal = true;
      readOnly = true;
      description = "The settings, judged.";
      example = literalExpression "config.services.carrel.hostFile";
    };

    declarations = mkOption {
      type = types.nullOr types.str;
      internal = true;
      readOnly = true;
      description = "The declarations' store path, where they are part of the configuration.";
      example = "/nix/store/…-tenants.d";
    };
  };

  config = lib.mkIf cfg.enable {
    services.carrel.declarations = if inStore cfg.tenantsDir && !cfg.git.enable then declared else null;
    services.carrel.hostFile = if canRun then judged else written;
    services.carrel.settings = {
      tenants_dir = lib.mkDefault (
        if cfg.declarations != null then "/etc/carrel/tenants.d" else declared
      );
      state_dir = lib.mkDefault (toString cfg.stateDir);
      listen.address = lib.mkDefault cfg.listen.address;
      listen.port = lib.mkDefault cfg.listen.port;
      require_closure = lib.mkDefault cfg.requireClosure;
      launcher = lib.mkDefault "/run/carrel-launcher.sock";
      drain_seconds = lib.mkDefault cfg.drainSeconds;
      secrets = lib.mkDefault (lib.attrNames cfg.secrets);
    };
    environment.etc = lib.mkIf (cfg.declarations != null) {
      "carrel/tenants.d".source = cfg.declarations;
    };
    system.checks = [ cfg.hostFile ];
  };
}
