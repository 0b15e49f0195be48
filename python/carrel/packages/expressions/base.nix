# What every environment has, by nixpkgs' names, and names that stand for others.
{
  names = [
    "bashInteractive"
    "coreutils"
    "findutils"
    "gnugrep"
    "gnused"
    "gawk"
    "gnutar"
    "gzip"
    "cacert"
  ];
  alias = {
    bash = "bashInteractive";
  };
}
