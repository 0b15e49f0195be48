# Several gateways that share declarations: each tenant is served by one of them, by a placement that is written down.
{ config, lib, ... }:
let
  cfg = config.services.carrel;
  inherit (lib) mkOption literalExpression types;
in
{
  options.services.carrel = {
    shards = mkOption {
      type = types.attrsOf (
        types.submodule {
          options = {
            url = mkOption {
              type = types.strMatching "http://[^/@ ]+";
              description = "Where the proxy reaches this gateway: an address in a network that nobody else is in.";
              example = "http://10.100.0.2:18789";
            };
            tenants = mkOption {
              type = types.listOf (types.strMatching "[a-z0-9][a-z0-9_-]{0,31}");
              default = [ ];
              description = "Whom it serves.";
              example = [
                "acme"
                "widgets"
              ];
            };
          };
        }
      );
      default = { };
      description = ''
        All gateways of a fleet, on one host or on many, that are given the same declarations. Each serves its own tenants
        and leaves the others alone; the proxy passes a request on by the tenant whose token it bears. A tenant that is
        moved is suspended where it was, and its data stay there until they are restored elsewhere: see the how-to.
      '';
      example = literalExpression ''
        {
          alpha = { url = "http://10.100.0.1:18789"; };
          beta = { url = "http://10.100.0.2:18789"; tenants = [ "acme" ]; };
        }
      '';
    };
    shard = {
      name = mkOption {
        type = types.nullOr types.str;
        default = null;
        description = "Which of `shards` this host's gateway is.";
        example = "alpha";
      };
      rest = mkOption {
        type = types.str;
        default = "";
        description = "Which of `shards` serves the tenants that none names.";
        example = "alpha";
      };
    };
  };

  config = lib.mkIf (cfg.enable && cfg.shards != { } && cfg.shard.name != null) {
    services.carrel.settings.placement = {
      shard = cfg.shard.name;
      rest = cfg.shard.rest;
      shards = builtins.mapAttrs (_: shard: { inherit (shard) url tenants; }) cfg.shards;
    };
  };
}
