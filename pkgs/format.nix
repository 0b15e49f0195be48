# What `nix fmt` runs: it writes what the check `format` wants.
{ pkgs }:
pkgs.writeShellApplication {
  name = "carrel-format";
  runtimeInputs = [
    pkgs.ruff
    pkgs.gitMinimal
    (import ./nixfmt.nix { inherit pkgs; })
  ];
  text = ''
    cd "$(git rev-parse --show-toplevel)"
    git ls-files -z '*.nix' | xargs -0 nixfmt
    cd python
    exec ruff format . ../tests
  '';
}
