# What a developer of Carrel has at hand beside the virtual environment that `make` builds.
{ pkgs }:
pkgs.mkShell {
  packages = with pkgs; [
    python3
    uv
    gnumake
    git
    nix
    bubblewrap
    libseccomp
    gcc
    nginx
    wrk
    acl
    (import ./nixfmt.nix { inherit pkgs; })
  ];
  # The seccomp generator looks its library up by name.
  LD_LIBRARY_PATH = pkgs.lib.makeLibraryPath [ pkgs.libseccomp ];
}
