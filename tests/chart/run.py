#!/usr/bin/env python3
"""The Helm chart: lint, schemas, refusals, and what must never change in what it renders.

    tests/chart/run.py HELM KUBECTL NODE_DIRECTORY

HELM and KUBECTL are the programs; NODE_DIRECTORY holds node_modules with the schemas of custom resources. Needs PyYAML
and kubernetes-validate.
"""
import json
import pathlib
import shlex
import subprocess
import sys
import tempfile

import kubernetes_validate
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "helm"
CASES = sorted(CHART.glob("ci/*.yaml"))
KUBERNETES = ["1.28", "1.35"]


class Chart:
    def __init__(self, helm):
        self.helm = helm

    def run(self, *arguments):
        return subprocess.run([self.helm, *arguments], capture_output=True, text=True)

    def render(self, case, *more):
        done = self.run("template", "r", str(CHART), "--namespace", "locks", "--values", str(CHART / "ci" / case), *more)
        assert done.returncode == 0, done.stderr
        return [resource for resource in yaml.safe_load_all(done.stdout) if resource]

    def refusal(self, case, *more):
        done = self.run("template", "r", str(CHART), "--values", str(CHART / "ci" / case), *more)
        assert done.returncode != 0, f"{more} are accepted"
        return done.stderr


def one(resources, kind, name=None):
    found = [resource for resource in resources if resource["kind"] == kind and name in (None, resource["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} of {kind} {name}"
    return found[0]


def gateway_of(resources):
    return one(resources, "Deployment")["spec"]["template"]["spec"]["containers"][0]


def environment_of(resources):
    return {variable["name"]: variable for variable in gateway_of(resources)["env"]}


def check_lint(chart):
    for case in CASES:
        done = chart.run("lint", "--strict", str(CHART), "--values", str(case))
        assert done.returncode == 0, done.stdout


def check_schemas(chart, node_directory):
    custom = []
    for case in CASES:
        for resource in chart.render(case.name):
            if resource["apiVersion"].split("/")[0] in ("monitoring.coreos.com", "gateway.networking.k8s.io"):
                custom.append(resource)
                continue
            for version in KUBERNETES:
                kubernetes_validate.validate(resource, version, strict=True)
    assert {resource["kind"] for resource in custom} == {"ServiceMonitor", "PrometheusRule", "HTTPRoute"}
    subprocess.run(["node", str(ROOT / "tests/chart/custom_resources.mjs"), node_directory], input=json.dumps(custom), text=True, check=True)


REFUSALS = [
    ("evaluation.yaml", "valkey.count=4", "/valkey/count"),
    ("evaluation.yaml", "replicaCount=many", "/replicaCount"),
    ("evaluation.yaml", "replicas=3", "replicas"),
    ("evaluation.yaml", "settings.max_tll=1m", "/settings"),
    ("evaluation.yaml", "settings.max_ttl=60", "/settings/max_ttl"),
    ("evaluation.yaml", "logFormat=xml", "/logFormat"),
    ("evaluation.yaml", "podDisruptionBudget.maxUnavailable=0", "/podDisruptionBudget/maxUnavailable"),
    ("production.yaml", "ingress.host=", "/ingress/host"),
    ("addresses.yaml", "nodes.addresses[0]=a=redis://:secret@h:6379", "/nodes/addresses/0"),
    ("addresses.yaml", "nodes.addresses[0]=h:6379", "/nodes/addresses/0"),
    ("evaluation.yaml", "httpRoute.enabled=true", "/httpRoute/parentRefs"),
    ("addresses.yaml", "valkey.enabled=true", "exactly one of"),
    ("evaluation.yaml", "valkey.enabled=false", "exactly one of"),
    ("evaluation.yaml", "auth.insecureNoAuth=false", "auth.existingSecret"),
    ("evaluation.yaml", "tls.clientCaSecret=clients", "tls.existingSecret"),
    ("evaluation.yaml", "tls.existingSecret=Not_a_name", "/tls/existingSecret"),
    ("evaluation.yaml", "settings.rate_limit=-1", "/settings/rate_limit"),
    ("evaluation.yaml", "settings.jwks=/keys.json", "jwt_issuer and jwt_audience"),
    ("evaluation.yaml", "settings.jwks=https://issuer/keys,settings.jwt_issuer=i,settings.jwt_audience=a", "networkPolicy.extraEgress"),
    ("production.yaml", "httpRoute.enabled=true,httpRoute.parentRefs[0].name=gateway", "httpRoute: it speaks http"),
    ("production.yaml", "autoscaling.minReplicas=11", "minReplicas is more than maxReplicas"),
    ("addresses.yaml", "nodes.addresses={a=redis://h:6379,a=redis://i:6379,b=redis://j:6379}", "have one name"),
    ("evaluation.yaml", "fullnameOverride=Not_a_name", "/fullnameOverride"),
    ("evaluation.yaml", "image.tag=a tag", "/image/tag"),
    ("evaluation.yaml", "commonLabels.team=a team", "/commonLabels/team"),
    ("evaluation.yaml", "commonLabels.app\\.kubernetes\\.io/name=x", "/commonLabels"),
    ("evaluation.yaml", "image.repository=foo:bar", "/image/repository"),
    ("evaluation.yaml", "podDisruptionBudget.maxUnavailable=0%", "/podDisruptionBudget/maxUnavailable"),
    ("evaluation.yaml", "settings.max_ttl=0s", "/settings/max_ttl"),
    ("production.yaml", "nodes.secretKey=a/b", "/nodes/secretKey"),
    ("production.yaml", "ingress.host=a_host", "/ingress/host"),
    ("addresses.yaml", "networkPolicy.nodePorts={1}", "nodePorts does not let the gateways reach port"),
]


def check_refusals(chart):
    for case, wrong, said in REFUSALS:
        refusal = chart.refusal(case, "--set", wrong)
        assert said in refusal, f"{wrong}: {refusal}"


def check_security(chart):
    for case in CASES:
        for resource in chart.render(case.name):
            template = resource["spec"]["template"]["spec"] if resource["kind"] in ("Deployment", "StatefulSet") else resource.get("spec", {})
            if "containers" not in template:
                continue
            name = f"{case.name} {resource['kind']} {resource['metadata']['name']}"
            assert template["automountServiceAccountToken"] is False, name
            assert template["securityContext"]["runAsNonRoot"] is True, name
            assert template["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
            for container in template["containers"]:
                expected = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
                assert container["securityContext"] == expected, name
                assert "memory" in container["resources"]["limits"], name


def check_nodes(chart):
    """Five independent nodes: five names, none of them that of the service."""
    resources = chart.render("evaluation.yaml")
    nodes = environment_of(resources)["REDLOCKD_NODES"]["value"].split(",")
    assert nodes == [f"n{n + 1}=redis://r-redlockd-valkey-{n}.r-redlockd-valkey.locks.svc:6379" for n in range(5)], nodes
    servers = one(resources, "StatefulSet")
    assert servers["spec"]["replicas"] == 5 and servers["spec"]["serviceName"] == "r-redlockd-valkey"
    service = one(resources, "Service", "r-redlockd-valkey")["spec"]
    assert service["clusterIP"] == "None" and service["publishNotReadyAddresses"] is True
    arguments = servers["spec"]["template"]["spec"]["containers"][0]["args"]
    assert ["--appendfsync", "always"] == arguments[2:4] and arguments[:2] == ["--appendonly", "yes"]
    apart = servers["spec"]["template"]["spec"]["affinity"]["podAntiAffinity"]
    assert apart["requiredDuringSchedulingIgnoredDuringExecution"][0]["topologyKey"] == "kubernetes.io/hostname"
    near = one(chart.render("evaluation.yaml", "--set", "valkey.antiAffinity=preferred"), "StatefulSet")["spec"]["template"]["spec"]
    assert list(near["affinity"]["podAntiAffinity"]) == ["preferredDuringSchedulingIgnoredDuringExecution"]
    assert len(servers["spec"]["volumeClaimTemplates"]) == 1
    long = chart.render("evaluation.yaml", "--set", "fullnameOverride=" + "n" * 63)
    assert len(one(long, "StatefulSet")["metadata"]["name"]) + len("-0123456789") <= 63


def check_secrets(chart):
    """Passwords and tokens come from secrets, and a change of the tokens reaches the gateway."""
    resources = chart.render("production.yaml")
    variables = environment_of(resources)
    assert variables["REDLOCKD_NODES"] == {"name": "REDLOCKD_NODES", "valueFrom": {"secretKeyRef": {"name": "redlockd-nodes", "key": "nodes"}}}
    assert variables["REDLOCKD_TOKENS_FILE"]["value"] == "/etc/redlockd/tokens.toml" and "REDLOCKD_INSECURE_NO_AUTH" not in variables
    mounts = gateway_of(resources)["volumeMounts"]
    assert all("subPath" not in mount and mount["readOnly"] is True for mount in mounts)
    volumes = {volume["name"]: volume["secret"]["secretName"] for volume in one(resources, "Deployment")["spec"]["template"]["spec"]["volumes"]}
    assert {mount["mountPath"]: volumes[mount["name"]] for mount in mounts} == {
        "/etc/redlockd": "redlockd-tokens",
        "/etc/redlockd-tls": "redlockd-tls",
        "/etc/redlockd-tls-clients": "redlockd-clients",
        "/etc/redlockd-nodes-ca": "redlockd-nodes-ca",
        "/etc/redlockd-nodes-tls": "redlockd-nodes-client",
    }
    for name, path in [
        ("TLS_CERT_FILE", "/etc/redlockd-tls/tls.crt"),
        ("TLS_KEY_FILE", "/etc/redlockd-tls/tls.key"),
        ("TLS_CLIENT_CA_FILE", "/etc/redlockd-tls-clients/ca.crt"),
        ("NODE_TLS_CA_FILE", "/etc/redlockd-nodes-ca/ca.crt"),
        ("NODE_TLS_CERT_FILE", "/etc/redlockd-nodes-tls/tls.crt"),
        ("NODE_TLS_KEY_FILE", "/etc/redlockd-nodes-tls/tls.key"),
    ]:
        assert variables[f"REDLOCKD_{name}"]["value"] == path, name
    assert variables["REDLOCKD_RATE_LIMIT"]["value"] == "1000000" and variables["REDLOCKD_AUDIT"]["value"] == "true"
    by_issuer = chart.render("addresses.yaml", "--set", "auth.existingSecret=")
    variables = environment_of(by_issuer)
    assert variables["REDLOCKD_JWKS"]["value"] == "https://issuer.example.com/jwks.json" and "REDLOCKD_INSECURE_NO_AUTH" not in variables
    assert {"ports": [{"port": 443}]} in one(by_issuer, "NetworkPolicy")["spec"]["egress"]
    by_certificate = environment_of(chart.render("production.yaml", "--set", "auth.existingSecret="))
    assert not {"REDLOCKD_TOKENS_FILE", "REDLOCKD_INSECURE_NO_AUTH"} & set(by_certificate)


def check_life(chart):
    """Replicas are left to the autoscaler; a pod has the time that its draining takes; probes want no token."""
    resources = chart.render("production.yaml")
    deployment = one(resources, "Deployment")["spec"]
    assert "replicas" not in deployment and one(chart.render("evaluation.yaml"), "Deployment")["spec"]["replicas"] == 2
    assert deployment["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    pod, variables = deployment["template"]["spec"], environment_of(resources)
    delay, grace = (int(variables[name]["value"].removesuffix("s")) for name in ("REDLOCKD_DRAIN_DELAY", "REDLOCKD_GRACE"))
    assert delay + 2 * grace < pod["terminationGracePeriodSeconds"]
    container = gateway_of(resources)
    assert {container[probe]["httpGet"]["port"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")} == {"metrics"}
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez" and container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert variables["REDLOCKD_MAX_TTL"]["value"] == "10m" and variables["REDLOCKD_THREADS"]["value"] == "2"
    generation = environment_of(chart.render("addresses.yaml"))["REDLOCKD_GENERATION"]["value"]
    assert generation == "1000000", generation


def check_selectors(chart):
    """What is selected exists: services, budgets and policies hit the pods that they are about."""
    for case in CASES:
        resources = chart.render(case.name)
        pods = [resource["spec"]["template"]["metadata"]["labels"] for resource in resources if resource["kind"] in ("Deployment", "StatefulSet")]
        for resource in resources:
            spec = resource.get("spec", {})
            if resource["kind"] == "Service":
                wanted = spec["selector"]
            elif resource["kind"] in ("PodDisruptionBudget", "NetworkPolicy"):
                wanted = spec.get("selector", spec.get("podSelector"))["matchLabels"]
            else:
                continue
            hit = [labels for labels in pods if wanted.items() <= labels.items()]
            assert len(hit) == 1, f"{case.name} {resource['kind']} {resource['metadata']['name']} selects {len(hit)} kinds of pods"
    resources = chart.render("production.yaml")
    labels = one(resources, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
    watched = [service for service in resources if service["kind"] == "Service" and labels.items() <= service["metadata"]["labels"].items()]
    assert [service["metadata"]["name"] for service in watched] == ["r-redlockd-metrics"]


def check_watching(chart):
    resources = chart.render("production.yaml")
    assert one(resources, "PrometheusRule")["spec"] == yaml.safe_load((CHART / "files/alerts.yaml").read_text())
    shown = json.loads(one(resources, "ConfigMap")["data"]["redlockd.json"])
    assert shown == json.loads((CHART / "files/dashboard.json").read_text())


def documented_commands(document):
    """The lines of its shell blocks."""
    blocks = [block.split("```")[0] for block in (ROOT / document).read_text().split("```sh\n")[1:]]
    return [line for block in blocks for line in block.splitlines()]


def check_documented_commands(chart, kubectl):
    """What the documents tell to type makes secrets with the keys that pods want, and values that the chart takes."""
    for document in ["README.md", "helm/README.md"]:
        secrets, values, rendered = {}, [], 0
        with tempfile.TemporaryDirectory() as directory:
            certificate = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=redlockd -keyout tls.key -out tls.crt"
            subprocess.run(certificate.split(), cwd=directory, check=True, capture_output=True)
            for name in ["tokens.toml", "ca.crt"]:
                pathlib.Path(directory, name).write_text("-")
            for line in documented_commands(document):
                words = shlex.split(line)
                if words[:3] == ["kubectl", "create", "secret"]:
                    done = subprocess.run([kubectl, *words[1:], "--dry-run=client", "--output=yaml"], cwd=directory, capture_output=True, text=True)
                    assert done.returncode == 0, f"{line}\n{done.stderr}"
                    secret = yaml.safe_load(done.stdout)
                    secrets[secret["metadata"]["name"]] = set(secret["data"])
                elif words[:2] in (["helm", "install"], ["helm", "upgrade"]):
                    # What --reset-then-reuse-values does.
                    more = [word for word in words[4:] if word != "--reset-then-reuse-values"]
                    values = values + more if "--reset-then-reuse-values" in words else more
                    done = chart.run("template", words[2], str(CHART), *values)
                    assert done.returncode == 0, f"{line}\n{done.stderr}"
                    rendered += 1
                    resources = [resource for resource in yaml.safe_load_all(done.stdout) if resource]
                    check_secrets_are_there(resources, secrets, line)
                    check_traces_may_leave(resources, line)
        assert 3 <= rendered, f"{document}: {rendered} commands of helm"


def check_secrets_are_there(resources, secrets, line):
    pod = one(resources, "Deployment")["spec"]["template"]["spec"]
    container, wanted = pod["containers"][0], []
    for variable in container["env"]:
        source = variable.get("valueFrom", {}).get("secretKeyRef")
        if source:
            wanted.append((source["name"], source["key"]))
    secret_of = {volume["name"]: volume["secret"]["secretName"] for volume in pod.get("volumes", []) if "secret" in volume}
    for mount in container.get("volumeMounts", []):
        folder = mount["mountPath"] + "/"
        values = [variable.get("value", "") for variable in container["env"]]
        if mount["name"] in secret_of:
            wanted += [(secret_of[mount["name"]], value.removeprefix(folder)) for value in values if value.startswith(folder)]
    for name, key in wanted:
        assert key in secrets.get(name, set()), f"{line}\nwants {key} of the secret {name}, and there are {secrets}"


def check_traces_may_leave(resources, line):
    endpoint = environment_of(resources).get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if endpoint:
        policies = [resource for resource in resources if resource["kind"] == "NetworkPolicy"]
        ports = [port["port"] for policy in policies for rule in policy["spec"].get("egress", []) for port in rule.get("ports", [])]
        assert int(endpoint["value"].rsplit(":", 1)[1]) in ports, f"{line}\nsends traces to {endpoint['value']}, and may reach {ports}"


def main():
    chart = Chart(sys.argv[1])
    check_lint(chart)
    check_schemas(chart, sys.argv[3])
    check_documented_commands(chart, pathlib.Path(sys.argv[2]).resolve())
    for check in (check_refusals, check_security, check_nodes, check_secrets, check_life, check_selectors, check_watching):
        check(chart)
    print(f"chart: {len(CASES)} sets of values valid for Kubernetes {' and '.join(KUBERNETES)}, {len(REFUSALS)} wrong values refused")


if __name__ == "__main__":
    main()
