# What `nix fmt` runs: it writes what the check `format` wants.
{ pkgs }:
pkgs.writeShellApplication {
  name = "carrel-format";
  runtimeInputs = [ pkgs.ruff pkgs.gitMinimal ];
  text = ''
    cd "$(git rev-parse --show-toplevel)/python"
    exec ruff format . ../tests
  '';
}
