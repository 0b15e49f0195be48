# What `nix flake check` builds: the packages, the example hosts, and the sample declarations judged by the gateway's own
# validator.
{ pkgs, self, nixpkgs }:
let
  packages = self.packages.${pkgs.stdenv.hostPlatform.system};
  hosts = pkgs.lib.filterAttrs (_: host: host.pkgs.stdenv.hostPlatform.system == pkgs.stdenv.hostPlatform.system) self.nixosConfigurations;
in
{
  inherit (packages) carrel trial environment index;
  tenants = pkgs.runCommand "tenants" { } ''
    ${packages.carrel}/bin/carrel check ${self}/tenants.d
    touch $out
  '';
}
// pkgs.lib.mapAttrs' (name: host: pkgs.lib.nameValuePair "host-${name}" host.config.system.build.toplevel) hosts
