{
  description = "Carrel: a self-hosted, multi-tenant gateway for AI agents";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-25.11";

  outputs =
    { self, nixpkgs }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      each = build: nixpkgs.lib.genAttrs systems (system: build nixpkgs.legacyPackages.${system});
      module = import ./modules { inherit self; };
    in
    {
      packages = each (
        pkgs:
        import ./pkgs {
          inherit pkgs nixpkgs;
          source = self;
        }
      );
      apps = each (
        pkgs:
        import ./pkgs/apps.nix {
          packages = self.packages.${pkgs.stdenv.hostPlatform.system};
          trial =
            if pkgs.stdenv.hostPlatform.system == "x86_64-linux" then self.nixosConfigurations.trial else null;
        }
      );
      devShells = each (pkgs: {
        default = import ./pkgs/shell.nix { inherit pkgs; };
      });
      checks = each (pkgs: import ./pkgs/checks.nix { inherit pkgs self nixpkgs; });
      formatter = each (pkgs: import ./pkgs/format.nix { inherit pkgs; });
      nixosModules = {
        default = {
          imports = [ module ];
        };
        carrel = {
          imports = [ module ];
        };
      };
      nixosConfigurations = import ./hosts { inherit self nixpkgs; };
    };
}
