# tests/nixos/matrix.nix against NixOS itself: what must evaluate does, and what must be refused is, in the words it should.
{
  pkgs,
  self,
  nixpkgs,
}:
let
  inherit (pkgs) lib;
  matrix = import ../tests/nixos/matrix.nix;
  base = {
    boot.loader.grub.device = "/dev/vda";
    fileSystems."/" = {
      device = "/dev/vda1";
      fsType = "ext4";
    };
    system.stateVersion = "25.11";
    users.users.agents = {
      isSystemUser = true;
      group = "agents";
    };
    users.groups.agents = { };
    services.openssh.enable = true;
  };
  host =
    module:
    nixpkgs.lib.nixosSystem {
      system = pkgs.stdenv.hostPlatform.system;
      modules = [
        self.nixosModules.default
        base
        module
      ];
    };
  failing =
    module:
    map (one: one.message) (builtins.filter (one: !one.assertion) (host module).config.assertions);
  right = lib.mapAttrsToList (
    name: module:
    let
      found = failing module;
    in
    if found != [ ] then
      [ "${name}: ${builtins.concatStringsSep " " found}" ]
    else
      builtins.seq (host module).config.system.build.toplevel.drvPath [ ]
  ) matrix.right;
  refused = lib.mapAttrsToList (
    name:
    { module, says }:
    if lib.any (lib.hasInfix says) (failing module) then [ ] else [ "${name}: nothing says `${says}`" ]
  ) matrix.refused;
  untyped = lib.mapAttrsToList (
    name: module:
    let
      tried = builtins.tryEval (
        builtins.deepSeq {
          inherit ((host module).config.services.carrel)
            settings
            shards
            tls
            backup
            ;
        } true
      );
    in
    if tried.success then [ "${name}: it is taken" ] else [ ]
  ) (builtins.removeAttrs matrix.untyped [ "misspelt" ]);
  problems = builtins.concatLists (right ++ refused ++ untyped);
in
if problems == [ ] then
  pkgs.runCommand "module-matrix" { } "touch $out"
else
  throw "services.carrel:\n${builtins.concatStringsSep "\n" problems}"
