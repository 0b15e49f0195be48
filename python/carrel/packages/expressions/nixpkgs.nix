# An environment of some packages of a pinned nixpkgs, and the base set. `packages` is a JSON list of attribute names; a name
# is looked up and never evaluated as text. Unfree and insecure packages are refused by nixpkgs itself.
{ packages, nixpkgs, system ? builtins.currentSystem }:
let
  pkgs = import nixpkgs { inherit system; config = { }; overlays = [ ]; };
  base = import ./base.nix;
  named = name:
    let attribute = base.alias.${name} or name; in
    if builtins.match "[A-Za-z0-9_+.-]+" attribute == null || !(pkgs ? ${attribute}) || !(pkgs.lib.isDerivation pkgs.${attribute})
    then throw "nixpkgs has no package ${name}"
    else pkgs.${attribute};
  wanted = map named (pkgs.lib.unique (base.names ++ builtins.fromJSON packages));
  tree = pkgs.buildEnv {
    name = "environment";
    paths = wanted;
    pathsToLink = [ "/bin" "/share" "/lib" "/libexec" "/etc" ];
    ignoreCollisions = true;
  };
  closure = pkgs.closureInfo { rootPaths = [ tree ]; };
in
pkgs.runCommand "environment" { } ''
  mkdir -p $out/nix-support
  for entry in ${tree}/*; do ln -s "$entry" $out/; done
  echo "SSL_CERT_FILE=${pkgs.cacert}/etc/ssl/certs/ca-bundle.crt" > $out/nix-support/environment
  { cat ${closure}/store-paths; echo ${tree}; echo $out; } | sort -u > $out/nix-support/closure
''
