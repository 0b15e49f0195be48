# What can be said of the gateway on a host. What concerns tenants is said in tenants.d.
{ lib, ... }:
let
  inherit (lib)
    mkOption
    mkEnableOption
    literalExpression
    types
    ;
in
{
  options.services.carrel = {
    enable = mkEnableOption "the Carrel gateway";

    package = mkOption {
      type = types.package;
      defaultText = literalExpression "the flake's `packages.carrel`";
      description = "The Carrel package.";
      example = literalExpression "inputs.carrel.packages.x86_64-linux.carrel";
    };

    nixpkgs = mkOption {
      type = types.str;
      defaultText = literalExpression "the flake's pinned nixpkgs";
      description = "The nixpkgs that tenants' packages are built from when they are wanted, with `packages: {source: nixpkgs}`.";
      example = "/nix/store/…-source";
    };

    tenantsDir = mkOption {
      type = types.path;
      default = "/var/lib/carrel-tenants/tenants.d";
      description = ''
        The directory of declarations. A path on the host, best a git work tree, is watched: a change needs no switch,
        and the gateway's user must be able to read it, and to write it where tenants are made by command. A path of
        your configuration (`./tenants.d`) is judged when the system is built, and comes into force with the switch,
        without a restart. With `git` the declarations come from there, and this is not used.
      '';
      example = literalExpression "./tenants.d";
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
      example = "agents";
    };

    group = mkOption {
      type = types.str;
      default = "carrel";
      description = "The group of that user.";
      example = "agents";
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
        description = "The share of the processors that the gateway and its sandboxes have, beside other services.";
        example = 50;
      };
      sandboxCpuWeight = mkOption {
        type = types.ints.between 1 10000;
        default = 20;
        description = "The sandboxes' share of that, beside the gateway, which has 100.";
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
      description = "Whether to open the gateway's port in the firewall; with `tls`, those of the proxy.";
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

    drainSeconds = mkOption {
      type = types.ints.between 1 3600;
      default = 120;
      description = ''
        How long answers that are being given may go on when the gateway stops: at a switch that changes it, say. New
        connections wait meanwhile, in a socket that systemd holds, and are served by the new gateway; nothing is refused.
        A longer time cuts off fewer answers, a shorter one lets nobody wait for another's.
      '';
      example = 600;
    };

    watchdogSeconds = mkOption {
      type = types.ints.between 0 3600;
      default = 60;
      description = "After how long a silence of its event loop the gateway is ended and started anew; 0 for never.";
      example = 120;
    };

    secrets = mkOption {
      type = types.attrsOf (
        types.submodule {
          options = {
            file = mkOption {
              type = types.either types.str types.path;
              description = ''
                The file that holds the secret, readable by root: a path on the host, as text. Its content never enters the
                Nix store, and a path there is refused.
              '';
              example = "/run/keys/anthropic";
            };
            encrypted = mkOption {
              type = types.bool;
              default = false;
              description = "Whether the file was made by `systemd-creds encrypt`, for this machine alone.";
              example = true;
            };
          };
        }
      );
      default = { };
      description = ''
        Secrets by the names that tenants.d uses, as `api_key: {secret: NAME}`. systemd hands them to the gateway alone, by
        `LoadCredential`: sandboxes, and the launcher that starts them, have no way to them. `carrel-master-key` is the one
        that tenants' own secrets are sealed with.
      '';
      example = literalExpression ''{ anthropic.file = "/run/keys/anthropic"; }'';
    };
  };
}
