# A stand-in for nixpkgs: of its interface only what an environment's expression asks for, made of the test set's packages.
# It is read from a directory that has the set in `set` and its Debian packages in `set/debs`.
{ system, config, overlays }:
assert config == { } && overlays == [ ];
let
  set = import ./set/default.nix { inherit system; packages = "[]"; debs = toString ./set/debs; };
  lib = {
    isDerivation = value: value.type or null == "derivation";
    unique = builtins.foldl' (seen: name: if builtins.elem name seen then seen else seen ++ [ name ]) [ ];
  };
  runCommand = name: attributes: script: (derivation ({
    inherit name system;
    builder = "${set.busybox}/bin/busybox";
    args = [ "sh" "-euc" "PATH=${set.busybox}/bin\n${script}" ];
  } // attributes)) // { type = "derivation"; };
  package = name: set.group name // { type = "derivation"; version = "12"; meta.description = "${name} of Debian"; };
in
builtins.listToAttrs (map (name: { inherit name; value = package name; }) set.names) // {
  inherit lib runCommand;
  stdenv.hostPlatform.system = system;
  bashInteractive = runCommand "bash-interactive" { } ''
    mkdir -p $out/bin
    ln -s ${package "bash"}/bin/bash $out/bin/bash
    ln -s bash $out/bin/sh
  '';
  buildEnv = { name, paths, pathsToLink, ignoreCollisions }: assert ignoreCollisions; runCommand name { } ''
    mkdir $out
    for path in ${builtins.concatStringsSep " " paths}; do
      for top in ${builtins.concatStringsSep " " pathsToLink}; do
        [ -d $path$top ] || continue
        mkdir -p $out$top
        for entry in $path$top/*; do
          [ ! -e $entry ] || [ -e $out$top/$(basename $entry) ] || ln -s $entry $out$top/
        done
      done
    done
  '';
  closureInfo = { rootPaths }: runCommand "closure-info"
    { exportReferencesGraph = builtins.concatMap (path: [ "graph-${path.name}" path ]) rootPaths; }
    "mkdir $out; cat graph-* | grep '^/nix/store/' | sort -u > $out/store-paths";
}
