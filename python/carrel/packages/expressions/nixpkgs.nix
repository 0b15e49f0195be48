# An environment of some packages of a pinned nixpkgs, and the base set. `packages` is a JSON list of attribute names; a name
# is looked up and never evaluated as text. `unfree` and `insecure` are JSON lists too, of what the operator permits all the
# same: names without, and with, their version. nixpkgs itself refuses the others.
{
  packages,
  nixpkgs,
  system,
  unfree ? "[]",
  insecure ? "[]",
}:
let
  permitted = builtins.fromJSON unfree;
  config = {
    allowUnfreePredicate =
      package: builtins.elem (package.pname or (builtins.parseDrvName package.name).name) permitted;
    permittedInsecurePackages = builtins.fromJSON insecure;
  };
  pkgs = import nixpkgs {
    inherit system config;
    overlays = [ ];
  };
  base = import ./base.nix;
  named =
    name:
    let
      attribute = base.alias.${name} or name;
    in
    if
      builtins.match "[A-Za-z0-9_+.-]+" attribute == null
      || !(pkgs ? ${attribute})
      || !(pkgs.lib.isDerivation pkgs.${attribute})
    then
      throw "nixpkgs has no package ${name}"
    else
      pkgs.${attribute};
  wanted = map named (pkgs.lib.unique (base.names ++ builtins.fromJSON packages));
  tree = pkgs.buildEnv {
    name = "environment";
    paths = wanted;
    pathsToLink = [
      "/bin"
      "/share"
      "/lib"
      "/libexec"
      "/etc"
    ];
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
