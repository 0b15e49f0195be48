# One environment: the programs of all packages by their names, what they want in the environment, and the closure.
# Run by busybox's shell in Nix's build sandbox. In: packages, busybox; the files `graph-*` are Nix's own lists of references.
set -eu
PATH=$busybox/bin

mkdir -p "$out/bin" "$out/nix-support"
for package in $packages; do
  for program in "$package"/bin/*; do
    name=$(basename "$program")
    [ ! -e "$program" ] || [ -e "$out/bin/$name" ] || ln -s "$program" "$out/bin/$name"
  done
  [ ! -e "$package/etc/ssl/certs/ca-bundle.crt" ] || echo "SSL_CERT_FILE=$package/etc/ssl/certs/ca-bundle.crt" >> "$out/nix-support/environment"
  [ ! -d "$package/lib/locale" ] || echo "LOCPATH=$package/lib/locale" >> "$out/nix-support/environment"
  [ ! -d "$package/lib/terminfo" ] || echo "TERMINFO_DIRS=$package/lib/terminfo" >> "$out/nix-support/environment"
  [ ! -d "$package/lib/git-core" ] || {
    echo "GIT_EXEC_PATH=$package/lib/git-core"
    echo "GIT_TEMPLATE_DIR=$package/share/git-core/templates"
  } >> "$out/nix-support/environment"
done
touch "$out/nix-support/environment"
ln -s bash "$out/bin/sh"
{ cat graph-* | grep '^/nix/store/'; echo "$out"; } | sort -u > "$out/nix-support/closure"
