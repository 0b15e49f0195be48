# The appliance from end to end: boot, push a tenant over ssh, chat, switch to a new generation in the middle of an answer,
# lose all state, restore from S3, and find the same sessions.
{ pkgs, self }:
{
  name = "carrel-appliance";

  nodes.s3 = {
    systemd.services.s3 = {
      wantedBy = [ "multi-user.target" ];
      environment.HOME = "/run";
      serviceConfig = {
        # A bucket is a directory.
        StateDirectory = "s3 s3/backups";
        ExecStart = "${pkgs.rclone}/bin/rclone serve s3 --addr :9000 --auth-key carrelbackups,not-a-secret-in-a-test --config /run/no.conf /var/lib/s3";
      };
    };
    networking.firewall.allowedTCPPorts = [ 9000 ];
  };

  nodes.machine = {
    imports = [ self.nixosModules.default ];
    virtualisation = {
      memorySize = 3072;
      cores = 2;
    };
    environment.systemPackages = [
      pkgs.git
      pkgs.curl
      pkgs.jq
    ];
    environment.etc = {
      "keys/access".text = "carrelbackups";
      "keys/secret".text = "not-a-secret-in-a-test";
      "keys/master".text = "1 MTExMTExMTExMTExMTExMTExMTExMTExMTExMTExMTE=";
    };
    services.openssh.enable = true;
    services.carrel = {
      enable = true;
      git.push.enable = true;
      restore.from = "s3://backups/carrel";
      packages.names = [
        "git"
        "jq"
        "python3"
      ];
      secrets = {
        s3-access.file = "/etc/keys/access";
        s3-secret.file = "/etc/keys/secret";
        carrel-master-key.file = "/etc/keys/master";
      };
    };
    # The next generation differs in what the gateway is told: its unit changes, and is restarted.
    specialisation.next.configuration.services.carrel.settings.log.level = pkgs.lib.mkForce "warning";
  };

  testScript = ''
    import json

    GATEWAY_YAML = """\
    providers: {demo: {kind: demo}}
    models: {demo: {provider: demo, context_window: 32768, max_output: 4096}}
    default_model: demo
    packages: {source: index}
    backup:
      to: s3://backups/carrel
      endpoint: http://s3:9000
      access_key: {secret: s3-access}
      secret_key: {secret: s3-secret}
      conditional_writes: false
    """

    start_all()
    s3.wait_for_unit("s3.service")
    s3.wait_for_open_port(9000)
    machine.wait_for_unit("carrel.service")
    machine.wait_for_unit("sshd.service")

    with subtest("a tenant is pushed over ssh"):
        machine.succeed("ssh-keygen -q -t ed25519 -N \"\" -f /root/key")
        machine.succeed("carrel git authorize /root/key.pub --name alice")
        machine.succeed("ssh-keyscan localhost > /root/known")
        machine.succeed("git init -q -b main /root/t && git -C /root/t config user.email a@example.org && git -C /root/t config user.name Alice")
        machine.succeed(f"cat > /root/t/_gateway.yaml << 'END'\n{GATEWAY_YAML}END")
        machine.succeed("printf 'models: {demo: {input: 1, output: 2}}\\n' > /root/t/_rate-card.yaml")
        machine.succeed("printf 'packages: {names: [git, jq, python3]}\\n' > /root/t/_allowlists.yaml")
        machine.succeed("printf 'display_name: Demo\\npackages: [jq]\\n' > /root/t/demo.yaml")
        machine.succeed("cd /root/t && git add -A && git commit -qm first && GIT_SSH_COMMAND=\"ssh -i /root/key -o UserKnownHostsFile=/root/known\" git push ssh://carrel@localhost/tenants.git main 2>&1")
        machine.fail("cd /root/t && echo 'plan: none' > broken.yaml && git add -A && git commit -qm broken && GIT_SSH_COMMAND=\"ssh -i /root/key -o UserKnownHostsFile=/root/known\" git push ssh://carrel@localhost/tenants.git main 2>&1")
        machine.succeed("cd /root/t && git reset -q --hard HEAD~1")
        machine.fail("ssh -i /root/key -o UserKnownHostsFile=/root/known carrel@localhost true")
        machine.wait_until_succeeds("carrel tenants show demo")

    token = json.loads(machine.succeed("carrel tenants token issue demo --name test --json"))["token"]

    def say(text, session, more=""):
        body = json.dumps({"model": "agent:main", "stream": True, "messages": [{"role": "user", "content": text}]})
        return (
            f"curl -sSN --fail -m 600 http://127.0.0.1:18789/v1/chat/completions -H 'Authorization: Bearer {token}' "
            f"-H 'X-Carrel-Session: {session}' -H 'Content-Type: application/json' --data-raw '{body}' {more}"
        )

    with subtest("it answers, by a tool in a sandbox"):
        machine.wait_until_succeeds(say("run: jq -n 6*7", "first") + " | grep 42", timeout=300)
        machine.succeed("carrel status --json | jq -e '.sandbox == \"bwrap\"'")

    with subtest("a switch cuts no answer off"):
        machine.succeed(say("run: for i in 1 2 3 4 5 6 7 8 9; do echo $i; sleep 2; done; echo whole", "second", "> /tmp/answer 2>&1 & echo $! > /tmp/pid"))
        machine.wait_until_succeeds("test -s /tmp/answer")
        before = machine.succeed("systemctl show -P MainPID carrel").strip()
        machine.succeed("/run/current-system/specialisation/next/bin/switch-to-configuration test >&2")
        assert machine.succeed("systemctl show -P MainPID carrel").strip() != before
        machine.wait_until_succeeds("! kill -0 $(cat /tmp/pid)")
        machine.succeed("grep -q DONE /tmp/answer")
        machine.succeed(say("hello", "second") + " | grep DONE")

    with subtest("all state is lost, and comes back from S3"):
        machine.succeed("carrel tenants backup demo")
        before = machine.succeed("carrel rpc demo sessions.list | jq -S '[.sessions[].sessionId]'")
        assert "first" in before, before
        machine.succeed("systemctl stop carrel.socket carrel.service carrel-restore.service && rm -rf /var/lib/carrel")
        machine.succeed("systemctl start carrel.socket carrel.service")
        # Nobody is declared on such a machine: it waits for the first push, and brings back whom that declares.
        machine.succeed("journalctl -u carrel-restore -o cat | grep 'Nobody has pushed here yet'")
        machine.succeed("carrel git authorize /root/key.pub --name alice")
        machine.succeed("cd /root/t && GIT_SSH_COMMAND=\"ssh -i /root/key -o UserKnownHostsFile=/root/known\" git push ssh://carrel@localhost/tenants.git main 2>&1")
        machine.wait_until_succeeds("carrel tenants show demo")
        assert machine.succeed("carrel rpc demo sessions.list | jq -S '[.sessions[].sessionId]'") == before
        # The token is the tenant's, and came back with it.
        machine.succeed(say("hello again", "first") + " | grep DONE")
  '';
}
