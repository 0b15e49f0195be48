# Machines that boot, for a builder with KVM and nixpkgs.
{ pkgs, self }:
{
  machine-appliance = pkgs.testers.runNixOSTest (import ./appliance.nix { inherit pkgs self; });
  machine-fleet = pkgs.testers.runNixOSTest (import ./fleet.nix { inherit self; });
}
