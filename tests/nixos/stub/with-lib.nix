# A host by nixpkgs' own `lib` (at the path `lib`), with the rest of NixOS as options that take what modules give them.
{
  lib,
  pkgs,
  modules,
}:
let
  library = import lib;
  inherit (library) mkOption types;
  list = mkOption {
    type = types.listOf types.unspecified;
    default = [ ];
  };
  set = mkOption {
    type = types.attrsOf types.unspecified;
    default = { };
  };
  # A unit: what is said of it in several places is merged, as NixOS does it.
  units = mkOption {
    type = types.attrsOf (types.submodule { freeformType = types.attrsOf types.anything; });
    default = { };
  };
  nixos = {
    options = {
      assertions = list;
      warnings = mkOption {
        type = types.listOf types.str;
        default = [ ];
      };
      boot.kernel.sysctl = mkOption {
        type = types.attrsOf types.unspecified;
        default = { };
      };
      boot.blacklistedKernelModules = list;
      boot.kernelPackages = set;
      environment = {
        etc = units;
        systemPackages = list;
        variables = set;
      };
      networking.firewall = {
        allowedTCPPorts = list;
      };
      security = mkOption {
        type = types.attrsOf types.anything;
        default = { };
      };
      services = {
        caddy = mkOption {
          type = types.attrsOf types.anything;
          default = { };
        };
        nginx = mkOption {
          type = types.attrsOf types.anything;
          default = { };
        };
        openssh = mkOption {
          type = types.attrsOf types.anything;
          default = { };
        };
        prometheus = {
          scrapeConfigs = list;
          rules = list;
        };
      };
      system.checks = list;
      systemd = {
        services = units;
        sockets = units;
        slices = units;
        timers = units;
        tmpfiles.rules = list;
      };
      users = {
        users = units;
        groups = units;
      };
    };
    config = {
      boot.kernelPackages.kernel = pkgs.linux;
      _module.args.pkgs = pkgs // {
        inherit library;
        formats.json = _: {
          type = (json library);
          generate = (pkgs.formats.json { }).generate;
        };
      };
    };
  };
  json =
    lib:
    with lib.types;
    let
      value =
        nullOr (oneOf [
          bool
          int
          float
          str
          path
          (attrsOf value)
          (listOf value)
        ])
        // {
          description = "JSON value";
        };
    in
    value;
in
library.evalModules { modules = [ nixos ] ++ modules; }
