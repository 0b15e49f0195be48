# The index of prebuilt packages: one JSON document with each package's store path, version, description and closure. Its
# format is documented in docs/explanation/nix.md. Whatever keeps the document from Nix's collector keeps all of them.
{
  pkgs,
  # Attributes of `pkgs`.
  names ? [ ],
  # Derivations that are not in `pkgs`, by name; they come before those that are.
  own ? { },
  # Variables that a package's programs want, by the package's name: `git.GIT_EXEC_PATH = "${git}/libexec/git-core"`.
  environment ? { },
  base ? (import ./base.nix).names,
}:
let
  inherit (builtins)
    attrNames
    concatLists
    genList
    length
    listToAttrs
    stringLength
    substring
    toJSON
    ;
  inherit (import ./base.nix) alias;
  attribute = name: alias.${name} or name;
  fits = name: builtins.match "[A-Za-z0-9][A-Za-z0-9._+-]*" name != null;
  named =
    name:
    if !(fits name) then
      throw "a package cannot be called `${name}'"
    else if own ? ${name} then
      own.${name}
    else if pkgs ? ${attribute name} && pkgs.lib.isDerivation pkgs.${attribute name} then
      pkgs.${attribute name}
    else
      throw "there is no package `${name}'";
  others = builtins.filter (name: builtins.elem alias.${name} base) (attrNames alias);
  all = listToAttrs (
    map (name: {
      inherit name;
      value = named name;
    }) (base ++ others ++ names ++ attrNames own)
  );
  ordered = attrNames all;
  certificates =
    if all ? cacert then
      { cacert.SSL_CERT_FILE = "${all.cacert}/etc/ssl/certs/ca-bundle.crt"; }
    else
      { };
  variables = certificates // environment;
  # All but the closure, which is not known before everything is built.
  head =
    name:
    let
      about = toJSON {
        path = "${all.${name}}";
        version = all.${name}.version or "";
        description = all.${name}.meta.description or "";
        environment = variables.${name} or { };
      };
    in
    ''${toJSON name}:${substring 0 (stringLength about - 1) about},"closure":['';
in
pkgs.runCommand "carrel-packages.json"
  {
    exportReferencesGraph = concatLists (
      genList (number: [
        "graph-${toString number}"
        all.${builtins.elemAt ordered number}
      ]) (length ordered)
    );
    start = ''{"format":"carrel-package-index","version":1,"system":"${pkgs.stdenv.hostPlatform.system}","base":${toJSON base},"packages":{'';
    heads = builtins.concatStringsSep "\n" (map head ordered) + "\n";
    # It grows with the packages, past what an environment variable may hold.
    passAsFile = [ "heads" ];
  }
  ''
    {
      printf '%s' "$start"
      number=0 comma=
      while IFS= read -r head; do
        printf '%s\n%s' "$comma" "$head"
        grep '^/nix/store/' "graph-$number" | sort -u | sed 's/.*/"&"/' | paste -s -d , - | tr -d '\n'
        printf ']}'
        comma=, number=$((number + 1))
      done < "$headsPath"
      printf '}}\n'
    } > "$out"
  ''
