# An environment of some of the set's packages, and the base set. `packages` is a JSON list of names, `debs` the directory
# that fetch.py filled. Nothing is taken from the machine that builds.
{
  packages,
  debs,
  system ? builtins.currentSystem,
}:
let
  set = builtins.fromJSON (builtins.readFile ./packages.json);
  lock = builtins.fromJSON (builtins.readFile (debs + "/lock.json"));
  triplet =
    {
      x86_64-linux = "x86_64-linux-gnu";
      aarch64-linux = "aarch64-linux-gnu";
    }
    .${system};
  loaderName =
    {
      x86_64-linux = "ld-linux-x86-64.so.2";
      aarch64-linux = "ld-linux-aarch64.so.1";
    }
    .${system};

  deb =
    name:
    let
      entry = lock.debs.${name};
    in
    builtins.path {
      path = debs + "/${entry.file}";
      name = "${name}.deb";
      sha256 = entry.sha256;
      recursive = false;
    };

  busybox = builtins.path {
    path = debs + "/busybox";
    name = "busybox-static";
  };

  build =
    name: attributes:
    derivation (
      {
        inherit name system;
        inherit busybox;
        builder = "${busybox}/bin/busybox";
      }
      // attributes
    );

  # The patching program with its own libraries: it is run through its own loader.
  tools = build "patchelf-tools" {
    args = [
      "sh"
      (builtins.toFile "tools.sh" ''
        set -eu
        PATH=$busybox/bin
        mkdir -p $out
        for deb in $debs; do
          mkdir part && cd part && ar x $deb && unxz -c data.tar.xz | tar -x -C $out && cd .. && rm -r part
        done
      '')
    ];
    debs = map deb set.tools;
  };

  needs = name: builtins.concatMap (need: [ need ] ++ needs need) set.groups.${name}.needs;

  group =
    name:
    let
      all = needs name;
    in
    build name {
      args = [
        "sh"
        ./unpack.sh
      ];
      inherit tools triplet;
      debs = map deb set.groups.${name}.debs;
      drop = set.groups.${name}.drop or [ ];
      rpath = builtins.concatStringsSep ":" (map (need: "${group need}/lib/${triplet}") (unique all));
      # The C library is itself what would be looked up.
      loader = if builtins.elem "libc" all then "${group "libc"}/lib/${triplet}/${loaderName}" else "";
    };

  unique =
    list:
    builtins.attrNames (
      builtins.listToAttrs (
        map (name: {
          inherit name;
          value = null;
        }) list
      )
    );

  wanted = unique (set.base ++ map known (builtins.fromJSON packages));
  known =
    name:
    if builtins.elem name set.packages then
      name
    else
      throw "the test set has no package ${name}; it has ${builtins.concatStringsSep ", " set.packages}";
  paths = map group wanted;
in
build "environment" {
  args = [
    "sh"
    ./environment.sh
  ];
  packages = paths;
  exportReferencesGraph = builtins.concatMap (name: [
    "graph-${name}"
    (group name)
  ]) wanted;
}
// {
  inherit busybox group;
  names = set.packages;
}
