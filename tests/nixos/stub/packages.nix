# Packages by name that are derivations and nothing more: they have a path, and are never built.
{ lib, system }:
let
  made =
    name: inputs:
    (derivation (
      {
        inherit name system;
        builder = "/never-built";
      }
      // inputs
    ))
    // {
      version = "6.12";
    };
  fake = name: extra: made name { } // extra;
  file = name: text: {
    type = "derivation";
    inherit name;
    outPath = builtins.toFile name text;
  };
  python = {
    pkgs = self.python3.basePackages;
    override = change: {
      pkgs =
        self.python3.basePackages
        // change.packageOverrides (self.python3.basePackages // overridden) self.python3.basePackages;
    };
  };
  overridden = {
    fetchPypi = arguments: fake arguments.pname { };
  };
  names = [
    "aiohttp"
    "anthropic"
    "typing-extensions"
    "yarl"
    "apsw"
    "boto3"
    "cronsim"
    "cryptography"
    "cyclopts"
    "jsonschema"
    "openai"
    "prometheus-client"
    "pydantic"
    "pyyaml"
    "rfc3339-validator"
    "rfc3986-validator"
    "rich"
    "sqlite-vec"
    "tzdata"
    "ruamel-yaml"
    "structlog"
    "tenacity"
    "uvloop"
    "watchfiles"
    "zstandard"
    "hatchling"
    "blockbuster"
    "hypothesis"
    "import-linter"
    "mypy"
    "pytest"
    "pytest-asyncio"
    "types-jsonschema"
    "types-pyyaml"
  ];
  module =
    name:
    fake name {
      version = "3.12.0";
      overridePythonAttrs = change: fake name (change { });
    };
  self = {
    inherit lib system;
    stdenv = rec {
      hostPlatform = { inherit system; };
      buildPlatform = hostPlatform // {
        canExecute = other: other.system == system;
      };
    };
    # These two are files of the store at once, and what `runCommand` makes can be built, where /bin/sh can do it.
    writeText = name: text: file name text;
    writeShellScript = name: text: made name { inherit text; };
    formats.json = _: {
      type = lib.types.anything;
      generate = name: value: file name (builtins.toJSON value);
    };
    python3 =
      (fake "python3" { })
      // python
      // {
        withPackages = choose: fake "python-with-packages" { };
        basePackages = lib.genAttrs names module // {
          buildPythonApplication =
            arguments:
            fake arguments.pname {
              inherit (arguments) version meta;
              inherit arguments;
            };
        };
      };
    callPackage =
      file: arguments:
      let
        content = import file;
        wanted = builtins.functionArgs content;
        known = lib.filterAttrs (name: _: wanted ? ${name}) (self // { inherit callPackage; });
        callPackage = self.callPackage;
      in
      content (known // arguments);
    writeShellApplication = arguments: made arguments.name { inherit (arguments) text; };
    runCommand =
      name: attributes: text:
      made name (
        {
          builder = "/bin/sh";
          args = [
            "-ec"
            text
          ];
          PATH = "/usr/bin:/bin";
        }
        // attributes
        // {
          inherit text;
        }
      );
    testers.runNixOSTest = test: made "vm-test-${test.name}" { inherit (test) testScript; };
    mkShell = arguments: fake "shell" { };
    buildEnv = arguments: made arguments.name { inherit (arguments) paths; };
    closureInfo = arguments: made "closure-info" { inherit (arguments) rootPaths; };
  }
  // lib.genAttrs [
    "bubblewrap"
    "git"
    "nix"
    "openssh"
    "coreutils"
    "uv"
    "gnumake"
    "libseccomp"
    "gcc"
    "nginx"
    "wrk"
    "acl"
    "makeWrapper"
    "linux"
    "bashInteractive"
    "findutils"
    "gnugrep"
    "gnused"
    "gawk"
    "gnutar"
    "gzip"
    "cacert"
    "jq"
    "ripgrep"
    "curl"
    "ruff"
    "gitMinimal"
    "minio-client"
    "nixfmt"
    "installShellFiles"
    "rclone"
  ] (name: fake name { });
in
self
