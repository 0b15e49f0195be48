# What nixpkgs' Python set has in a version older than the gateway needs.
{ lib }:
final: prev: {
  # 3.14.3 refuses request framings that older ones let through.
  aiohttp =
    if lib.versionAtLeast prev.aiohttp.version "3.14.3" then
      prev.aiohttp
    else
      prev.aiohttp.overridePythonAttrs (_: rec {
        version = "3.14.5";
        src = final.fetchPypi {
          pname = "aiohttp";
          inherit version;
          hash = "sha256-VVin9aBa+ez3RK+R5brvxDb5PJMz5lbCfsJT+aa74Xg=";
        };
        # The published archive has its generated sources and its parser in it.
        patches = [ ];
        postPatch = "";
        preBuild = "";
        postInstall = "";
        doCheck = false;
      });
}
