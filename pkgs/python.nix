# What nixpkgs' Python set has in a version older than the gateway needs. Published archives have their generated sources in them.
{ lib }:
final: prev:
let
  newer =
    {
      name,
      least,
      version,
      hash,
      more ? (_: { }),
    }:
    if lib.versionAtLeast prev.${name}.version least then
      prev.${name}
    else
      prev.${name}.overridePythonAttrs (
        old:
        {
          inherit version;
          src = final.fetchPypi {
            pname = name;
            inherit version hash;
          };
          patches = [ ];
          postPatch = "";
          preBuild = "";
          postInstall = "";
          doCheck = false;
        }
        // more old
      );
in
{
  # 3.14.3 refuses request framings that older ones let through.
  aiohttp = newer {
    name = "aiohttp";
    least = "3.14.3";
    version = "3.14.5";
    hash = "sha256-VVin9aBa+ez3RK+R5brvxDb5PJMz5lbCfsJT+aa74Xg=";
    more = old: {
      # Its own parser, which that depends on, and not the system's, which nixpkgs would have.
      env = (old.env or { }) // {
        AIOHTTP_USE_SYSTEM_DEPS = "";
      };
      dependencies = (old.dependencies or [ ]) ++ [ final.typing-extensions ];
    };
  };

  # That aiohttp asks for it.
  yarl = newer {
    name = "yarl";
    least = "1.25.1";
    version = "1.25.1";
    hash = "sha256-A9043gm8IT6aiyl2Huwz7h1TGNrA5J2K825NJ4MOI6c=";
  };
}
