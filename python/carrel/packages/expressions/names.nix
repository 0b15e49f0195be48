# The names of all packages of nixpkgs. Whether an attribute is a package is asked, and not what it would take to build it.
{ nixpkgs, system, ... }:
let
  pkgs = import nixpkgs {
    inherit system;
    config = {
      allowAliases = false;
    };
    overlays = [ ];
  };
  isPackage =
    name:
    builtins.match "[A-Za-z0-9][A-Za-z0-9._+-]*" name != null
    && (builtins.tryEval (pkgs.lib.isDerivation pkgs.${name})).value;
in
builtins.filter isPackage (builtins.attrNames pkgs)
