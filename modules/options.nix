# What can be said of the gateway on a host. What concerns tenants is said in tenants.d.
{ lib, ... }:
let
  inherit (lib) mkOption mkEnableOption types;
in
{
  options.services.carrel = {
    enable = mkEnableOption "the Carrel gateway";

    package = mkOption {
      type = types.package;
      description = "The Carrel package. The flake's own by default.";
      example = lib.literalExpression "inputs.carrel.packages.x86_64-linux.carrel";
    };

    nixpkgs = mkOption {
      type = types.str;
      description = "The nixpkgs that tenants' packages are built from. The flake's pinned one by default.";
      example = "/nix/store/…-source";
    };

    tenantsDir = mkOption {
      type = types.path;
      default = "/var/lib/carrel-tenants/tenants.d";
      description = ''
        The directory of declarations, best a git work tree. It is watched: a change needs no switch. The gateway's user
        must be able to read it, and to write it where tenants are made by command.
      '';
      example = "/srv/carrel/tenants.d";
    };

    stateDir = mkOption {
      type = types.path;
      default = "/var/lib/carrel";
      description = "Where sessions, ledgers, tokens, the audit log and environments are kept.";
      example = "/data/carrel";
    };

    user = mkOption {
      type = types.str;
      default = "carrel";
      description = "The user that the gateway and all sandboxes run as. It is made where it is `carrel`.";
      example = "carrel";
    };

    group = mkOption {
      type = types.str;
      default = "carrel";
      description = "The group of that user.";
      example = "carrel";
    };

    resources = {
      memoryMax = mkOption {
        type = types.nullOr types.str;
        default = "80%";
        description = ''
          Memory of the gateway and all sandboxes together, as systemd's `MemoryMax=` takes it. Where it is used up a
          sandbox is ended, with the reason in the tool's result. `null`: all that the machine has.
        '';
        example = "24G";
      };
      cpuWeight = mkOption {
        type = types.ints.between 1 10000;
        default = 100;
        description = "The gateway's share of the processors, its sandboxes' included, beside other services.";
        example = 50;
      };
    };

    listen = {
      address = mkOption {
        type = types.str;
        default = "127.0.0.1";
        description = "The address to listen on. Put a reverse proxy with TLS before anything but loopback.";
        example = "::1";
      };
      port = mkOption {
        type = types.port;
        default = 18789;
        description = "The port to listen on.";
        example = 8080;
      };
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Whether to open the port in the firewall.";
      example = true;
    };

    requireClosure = mkOption {
      type = types.bool;
      default = true;
      description = ''
        Whether tools run on Nix closures only, and the gateway refuses to start where the sandbox does not hold. Without
        it, as in a trial, the host's system is lent to tools where there is no closure.
      '';
      example = false;
    };

    secrets = mkOption {
      type = types.attrsOf (types.submodule {
        options.file = mkOption {
          type = types.str;
          description = "The file that holds the secret, readable by root. Its content never enters the Nix store.";
          example = "/run/keys/anthropic";
        };
      });
      default = { };
      description = "Secrets by the names that tenants.d uses, as `api_key: {secret: NAME}`, given by `LoadCredential`.";
      example = lib.literalExpression ''{ anthropic.file = "/run/keys/anthropic"; }'';
    };

    settings = mkOption {
      type = types.submodule {
        options = {
          logLevel = mkOption {
            type = types.enum [ "debug" "info" "warning" "error" ];
            default = "info";
            description = "The least that is logged.";
            example = "warning";
          };
          logJson = mkOption {
            type = types.bool;
            default = true;
            description = "Whether log lines are JSON.";
            example = false;
          };
          extraArguments = mkOption {
            type = types.listOf types.str;
            default = [ ];
            description = "Further arguments of `carrel gateway`.";
            example = [ "--log-level" "debug" ];
          };
        };
      };
      default = { };
      description = "How the gateway process itself behaves.";
      example = { logLevel = "warning"; };
    };
  };
}
