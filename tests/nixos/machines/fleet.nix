# Two gateways with the same declarations: each serves its own tenants, and the proxy knows whose a token is.
{ self }:
let
  shards = {
    alpha.url = "http://alpha:18789";
    beta = {
      url = "http://beta:18789";
      tenants = [ "acme" ];
    };
  };
  gateway = name: {
    imports = [ self.nixosModules.default ];
    virtualisation.memorySize = 2048;
    services.carrel = {
      enable = true;
      requireClosure = false;
      tenantsDir = ../../../tenants.d;
      listen.address = "0.0.0.0";
      openFirewall = true;
      settings.listen.names = [
        "alpha"
        "beta"
      ];
      inherit shards;
      shard = {
        inherit name;
        rest = "alpha";
      };
    };
  };
in
{
  name = "carrel-fleet";
  nodes.alpha = gateway "alpha";
  nodes.beta = gateway "beta";

  testScript = ''
    import json

    start_all()
    for machine in (alpha, beta):
        machine.wait_for_unit("carrel.service")

    def served(machine):
        return sorted(one["id"] for one in json.loads(machine.succeed("carrel tenants list --json"))["tenants"])

    assert served(alpha) == ["demo"], served(alpha)
    assert served(beta) == ["acme"], served(beta)
    token = json.loads(beta.succeed("carrel tenants token issue acme --name test --json"))["token"]
    ask = f"curl -s -o /dev/null -w '%{{http_code}}' -H 'Authorization: Bearer {token}' http://%s:18789/v1/models"
    assert alpha.succeed(ask % "beta") == "200"
    assert alpha.succeed(ask % "alpha") == "401"
  '';
}
