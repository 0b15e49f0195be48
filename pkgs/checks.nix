# What `nix flake check` builds: the packages, the example hosts, the sample declarations judged by the gateway's own
# validator, the source's format, lints, types, tests and generated pages, the module's matrix, and machines that boot.
{
  pkgs,
  self,
  nixpkgs,
}:
let
  inherit (pkgs) lib;
  system = pkgs.stdenv.hostPlatform.system;
  packages = self.packages.${system};
  hosts = lib.filterAttrs (
    _: host: host.pkgs.stdenv.hostPlatform.system == system
  ) self.nixosConfigurations;
  source = import ./source-checks.nix { inherit pkgs self packages; };
  matrix = import ./matrix-check.nix { inherit pkgs self nixpkgs; };
  # They want KVM, and machines of this system.
  machines =
    if system == "x86_64-linux" then import ../tests/nixos/machines { inherit pkgs self; } else { };
in
{
  inherit (packages)
    carrel
    trial
    environment
    index
    ;
  tenants = pkgs.runCommand "tenants" { } ''
    ${packages.carrel}/bin/carrel check ${self}/tenants.d
    touch $out
  '';
  module-matrix = matrix;
}
// source
// machines
// lib.mapAttrs' (
  name: host: lib.nameValuePair "host-${name}" host.config.system.build.toplevel
) hosts
