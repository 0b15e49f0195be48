# Packages by name that are derivations and nothing more: they have a path, and are never built.
{ lib, system }:
let
  made = name: inputs: (derivation ({ inherit name system; builder = "/never-built"; } // inputs)) // { version = "6.12"; };
  fake = name: extra: made name { } // extra;
  python = {
    pkgs = self.python3.basePackages;
    override = { packageOverrides }: { pkgs = self.python3.basePackages // packageOverrides (self.python3.basePackages // overridden) self.python3.basePackages; };
  };
  overridden = { fetchPypi = arguments: fake arguments.pname { }; };
  names = [
    "aiohttp" "anthropic" "apsw" "boto3" "cronsim" "cryptography" "cyclopts" "jsonschema" "openai" "prometheus-client" "pydantic" "pyyaml" "rfc3339-validator" "rfc3986-validator" "rich" "sqlite-vec" "tzdata"
    "ruamel-yaml" "structlog" "tenacity" "uvloop" "watchfiles" "zstandard" "hatchling"
  ];
  module = name: fake name {
    version = "3.12.0";
    overridePythonAttrs = change: fake name (change { });
  };
  self = {
    inherit lib system;
    stdenv.hostPlatform.system = system;
    python3 = (fake "python3" { }) // python // {
      basePackages = lib.genAttrs names module // {
        buildPythonApplication = arguments: fake arguments.pname { inherit (arguments) version meta; inherit arguments; };
      };
    };
    callPackage = file: arguments:
      let
        content = import file;
        wanted = builtins.functionArgs content;
        known = lib.filterAttrs (name: _: wanted ? ${name}) (self // { inherit callPackage; });
        callPackage = self.callPackage;
      in
      content (known // arguments);
    writeShellApplication = arguments: made arguments.name { inherit (arguments) text; };
    runCommand = name: attributes: text: made name (attributes // { inherit text; });
    mkShell = arguments: fake "shell" { };
    buildEnv = arguments: made arguments.name { inherit (arguments) paths; };
    closureInfo = arguments: made "closure-info" { inherit (arguments) rootPaths; };
  } // lib.genAttrs [
    "bubblewrap" "git" "nix" "openssh" "coreutils" "uv" "gnumake" "libseccomp" "gcc" "nginx" "wrk" "acl" "makeWrapper"
    "nixfmt-rfc-style" "linux" "bashInteractive" "findutils" "gnugrep" "gnused" "gawk" "gnutar" "gzip" "cacert" "jq"
    "ripgrep"
  ] (name: fake name { });
in
self
