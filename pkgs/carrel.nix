# The gateway and its command, with the programs that it calls.
{
  lib,
  python3,
  callPackage,
  installShellFiles,
  stdenv,
  bubblewrap,
  git,
  nix,
  openssh,
  source,
}:
let
  python = python3.override { packageOverrides = import ./python.nix { inherit lib; }; };
  project = lib.importTOML (source + "/python/pyproject.toml");
  dependencies = with python.pkgs; [
    aiohttp
    anthropic
    apsw
    cronsim
    boto3
    cryptography
    cyclopts
    jsonschema
    openai
    prometheus-client
    pydantic
    pyyaml
    rfc3339-validator
    rfc3986-validator
    rich
    ruamel-yaml
    sqlite-vec
    structlog
    tenacity
    tzdata
    uvloop
    watchfiles
    zstandard
  ];
in
python.pkgs.buildPythonApplication {
  pname = project.project.name;
  version = project.project.version;
  pyproject = true;
  src = source + "/python";

  build-system = [ python.pkgs.hatchling ];
  inherit dependencies;
  # For checks of the source.
  passthru = { inherit python dependencies; };

  makeWrapperArgs = [
    "--prefix"
    "PATH"
    ":"
    (lib.makeBinPath [
      bubblewrap
      git
      nix
      openssh
    ])
  ];
  # As the command itself gives them: a machine that it cannot run on has none.
  nativeBuildInputs = [ installShellFiles ];
  postFixup = lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    export HOME=$TMPDIR
    $out/bin/carrel man > carrel.1
    installManPage carrel.1
    for shell in bash zsh fish; do
      $out/bin/carrel completion $shell > carrel.$shell
    done
    installShellCompletion carrel.bash carrel.zsh carrel.fish
  '';
  pythonImportsCheck = [ "carrel.main.console" ];
  # The tests need a whole checkout and make namespaces: they are run by `make test`.
  doCheck = false;

  meta = {
    description = project.project.description;
    license = lib.licenses.asl20;
    mainProgram = "carrel";
    platforms = [
      "x86_64-linux"
      "aarch64-linux"
    ];
  };
}
