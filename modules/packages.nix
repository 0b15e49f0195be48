# What tenants may have without anything being built for them: an index that is made at switch. The system's closure holds it,
# and so all that it names.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.carrel;
  inherit (lib) mkOption types;
  expressions = ../python/carrel/packages/expressions;
  names = lib.unique (cfg.packages.names ++ builtins.concatLists (lib.attrValues cfg.packages.sets));
  alias = (import (expressions + "/base.nix")).alias;
  known = name: cfg.packages.own ? ${name} || pkgs ? ${alias.${name} or name};
  unknown = lib.filter (name: !(known name)) names;
  wanted = names != [ ] || cfg.packages.own != { };
in
{
  options.services.carrel.packages = {
    names = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = ''
        Packages of the host's nixpkgs that are built at switch, for `packages: {source: index}` in `_gateway.yaml`. Which
        of them a tenant may name is said in `_allowlists.yaml`. Unfree and insecure ones are refused unless the host's
        `nixpkgs.config` permits them.
      '';
      example = [
        "git"
        "jq"
        "ripgrep"
      ];
    };
    sets = mkOption {
      type = types.attrsOf (types.listOf types.str);
      default = { };
      description = "More of them, grouped under a name to keep a long list readable.";
      example = {
        archives = [
          "unzip"
          "zip"
        ];
      };
    };
    own = mkOption {
      type = types.attrsOf types.package;
      default = { };
      description = "Derivations that are not in nixpkgs, by the name that tenants use.";
      example = lib.literalExpression "{ mytool = pkgs.callPackage ./mytool.nix { }; }";
    };
    environment = mkOption {
      type = types.attrsOf (types.attrsOf types.str);
      default = { };
      description = "Variables that a package's programs want, by the package's name. Their values are in the store.";
      example = lib.literalExpression ''{ mytool.MYTOOL_HOME = "''${pkgs.mytool}/share"; }'';
    };
  };

  config = lib.mkIf (cfg.enable && wanted) {
    assertions = [
      {
        assertion = unknown == [ ];
        message = "services.carrel.packages: nixpkgs has no ${builtins.concatStringsSep ", " unknown}.";
      }
    ];
    environment.etc."carrel/packages.json".source = import (expressions + "/index.nix") {
      inherit pkgs names;
      inherit (cfg.packages) own environment;
    };
  };
}
