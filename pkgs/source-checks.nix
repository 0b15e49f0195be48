# The source judged as `make test` judges it, as far as a build without namespaces of its own can: format, lints, import
# rules, types, the generated pages, and the tests of pure rooms. Tests that start sandboxes, Nix or git servers want a
# whole machine, and are `make test`'s.
{
  pkgs,
  self,
  packages,
}:
let
  python = packages.carrel.python or pkgs.python3;
  tools =
    with python.pkgs;
    [
      blockbuster
      hypothesis
      import-linter
      mypy
      pytest
      pytest-asyncio
      types-jsonschema
      types-pyyaml
    ]
    ++ (packages.carrel.dependencies or [ ]);
  check =
    name: words:
    pkgs.runCommand "carrel-${name}"
      {
        nativeBuildInputs = [
          (python.withPackages (_: tools))
          pkgs.ruff
          pkgs.gitMinimal
          (import ./nixfmt.nix { inherit pkgs; })
        ];
      }
      ''
        cp -r ${self} source && chmod -R u+w source && cd source/python
        export HOME=$TMPDIR PYTHONPATH=$PWD:$PWD/.. PYTHONDONTWRITEBYTECODE=1
        ${words}
        touch $out
      '';
  pytest = "python -m pytest -c pyproject.toml --rootdir .. -p no:cacheprovider -q";
in
{
  format = check "format" ''
    ruff format --check . ../tests
    find .. -name '*.nix' -print0 | xargs -0 nixfmt --check
  '';
  lint = check "lint" "ruff check . ../tests && lint-imports";
  # Tests use more libraries than nixpkgs has; their types are `make test`'s.
  types = check "types" "mypy carrel";
  docs-drift = check "docs-drift" "${pytest} ../tests/house/test_docs.py ../tests/house/test_text.py ../tests/house/test_sizes.py";
  tests = check "tests" "${pytest} ../tests/unit/declare ../tests/unit/policy ../tests/unit/plan ../tests/unit/wire";
}
