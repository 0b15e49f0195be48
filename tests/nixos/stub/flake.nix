{
  description = "What the flake needs of nixpkgs, in the small: enough to evaluate every output, nothing to build.";

  outputs =
    { self }:
    let
      lib = import ./lib.nix;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
    in
    {
      lib = lib // {
        nixosSystem =
          { system, modules }:
          let
            pkgs = self.legacyPackages.${system};
          in
          lib.evalModules {
            modules = [ (import ./nixos.nix) ] ++ modules;
            arguments = { inherit pkgs lib; };
          }
          // {
            inherit pkgs;
          };
      };
      legacyPackages = lib.genAttrs systems (system: import ./packages.nix { inherit lib system; });
    };
}
