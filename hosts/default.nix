# Example hosts. They build as checks, and are to be copied.
{ self, nixpkgs }:
let
  host =
    file:
    nixpkgs.lib.nixosSystem {
      system = "x86_64-linux";
      modules = [
        self.nixosModules.default
        file
      ];
    };
  fleet = import ./fleet.nix;
in
{
  single-box = host ./single-box.nix;
  trial = host ./trial.nix;
  fleet-alpha = host (fleet "alpha");
  fleet-beta = host (fleet "beta");
}
