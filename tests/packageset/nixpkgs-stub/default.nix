# A stand-in for nixpkgs: of its interface only what an environment's expression asks for, made of the test set's packages.
# It is read from a directory that has the set in `set` and its Debian packages in `set/debs`.
{
  system,
  config,
  overlays,
}:
assert overlays == [ ];
let
  # Of nixpkgs' own judgement of what may be evaluated: the two questions, and its words where the answer is no.
  judged =
    package:
    let
      name = "${package.pname}-${package.version}";
      isUnfree = package.meta.license.free or true == false;
      permitted = builtins.elem name (config.permittedInsecurePackages or [ ]);
      refused = throw "Package ‘${name}’ in ${toString ./.}/default.nix:1 ${why}, refusing to evaluate.";
      why =
        if isUnfree && !((config.allowUnfreePredicate or (_: false)) package) then
          "has an unfree license (‘unfree’)"
        else if package.meta ? knownVulnerabilities && !permitted then
          "is marked as insecure"
        else
          null;
    in
    if why == null then
      package
    else
      package
      // {
        drvPath = refused;
        outPath = refused;
      };
  program =
    pname: version: meta:
    judged (
      runCommand "${pname}-${version}" { } ''
        mkdir -p $out/bin
        printf '#!/bin/sh\necho ${pname}\n' > $out/bin/${pname}
        chmod +x $out/bin/${pname}
      ''
      // {
        inherit pname version meta;
      }
    );
  # Looks like a package until it is asked what it takes to build it.
  spoilt = path: {
    type = "derivation";
    name = "spoilt";
    drvPath = path;
    outPath = path;
  };
  numbers = count: builtins.genList (number: number) count;
  set = import ./set/default.nix {
    inherit system;
    packages = "[]";
    debs = toString ./set/debs;
  };
  lib = {
    isDerivation = value: value.type or null == "derivation";
    unique = builtins.foldl' (
      seen: name: if builtins.elem name seen then seen else seen ++ [ name ]
    ) [ ];
  };
  runCommand =
    name: attributes: script:
    (derivation (
      {
        inherit name system;
        builder = "${set.busybox}/bin/busybox";
        args = [
          "sh"
          "-euc"
          "PATH=${set.busybox}/bin\n${script}"
        ];
      }
      // attributes
    ))
    // {
      type = "derivation";
    };
  package =
    name:
    set.group name
    // {
      type = "derivation";
      version = "12";
      meta.description = "${name} of Debian";
    };
in
builtins.listToAttrs (
  map (name: {
    inherit name;
    value = package name;
  }) set.names
)
// {
  inherit lib runCommand;
  stdenv.hostPlatform.system = system;
  unfree-tool = program "unfree-tool" "1.0" { license.free = false; };
  old-tool = program "old-tool" "1.1w" { knownVulnerabilities = [ "CVE-2000-0001" ]; };
  # For ever, as far as anybody waits.
  loops = spoilt (
    toString (
      builtins.foldl' (a: x: builtins.foldl' (b: y: b + y) a (numbers 10000)) 0 (numbers 10000000)
    )
  );
  eats = spoilt (
    toString (
      builtins.length (
        builtins.foldl' (
          a: x:
          a
          ++ [
            [
              x
              a
            ]
          ]
        ) [ ] (numbers 100000000)
      )
    )
  );
  recurses = spoilt (
    let
      f = x: 1 + f (x + 1);
    in
    toString (f 0)
  );
  imports = spoilt "${import (runCommand "made-first" { } "echo '\"x\"' > $out")}";
  reads = spoilt (builtins.readFile "/etc/hostname");
  asks = spoilt (toString builtins.currentTime);
  wonders = spoilt (throw "that the machine is `${builtins.getEnv "PATH"}'");
  fetches = spoilt (builtins.readFile (builtins.fetchurl "http://127.0.0.1:1/x"));
  fails =
    runCommand "fails" { }
      "echo one; printf 'two \\033[31mred\\n'; echo the reason >&2; exit 3";
  chatters =
    runCommand "chatters" { }
      "while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done";
  sleeps = runCommand "sleeps" { } "sleep 353.9 & sleep 353.9";
  # What is not a package, and what cannot even be asked.
  aFunction = x: x;
  gone = throw "it was removed";
  bashInteractive = runCommand "bash-interactive" { } ''
    mkdir -p $out/bin
    ln -s ${package "bash"}/bin/bash $out/bin/bash
    ln -s bash $out/bin/sh
  '';
  buildEnv =
    {
      name,
      paths,
      pathsToLink,
      ignoreCollisions,
    }:
    assert ignoreCollisions;
    runCommand name { } ''
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
  closureInfo =
    { rootPaths }:
    runCommand "closure-info" {
      exportReferencesGraph = builtins.concatMap (path: [
        "graph-${path.name}"
        path
      ]) rootPaths;
    } "mkdir $out; cat graph-* | grep '^/nix/store/' | sort -u > $out/store-paths";
}
