"""The server: jobs from upload to result, and what must not get through."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import viscera
from viscera.errors import UsageError
from viscera.io.write import write_volume

pytest.importorskip("starlette", reason="needs the extra web")
pytest.importorskip("uvicorn", reason="needs the extra web")
pytest.importorskip("httpx2", reason="needs httpx2, to call the server")

import httpx2
from starlette.testclient import TestClient

from viscera.serve.app import make_app
from viscera.serve.jobs import JobStore
from viscera.serve.openapi import openapi_description
from viscera.serve.security import TOKEN_HEADER
from viscera.serve.settings import ServerSettings
from viscera.serve.work_folder import sweep_dead, work_folder

CHROMIUM = shutil.which("chromium")
TOKEN = "a-token-for-the-tests"
HEADERS = {TOKEN_HEADER: TOKEN}
HOSTILE = '<img src=x onerror="alert(1)">'


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A phantom in a file."""
    path = tmp_path_factory.mktemp("scan") / "ct.nii.gz"
    volume, _ = viscera.make_phantom(7, shape=(48, 40, 28), spacing_mm=(7.5, 7.0, 10.0))
    write_volume(path, volume)
    return path


@pytest.fixture
def serve(tmp_path):
    """Opens clients of a server with these settings."""
    opened = []

    def make(**settings):
        chosen = ServerSettings(token=TOKEN, is_token_given=True, **settings)
        (tmp_path / "work").mkdir(exist_ok=True)
        jobs = JobStore(chosen, tmp_path / "work")
        client = TestClient(make_app(chosen, jobs), base_url="http://127.0.0.1", headers=HEADERS)
        client.__enter__()
        client.jobs = jobs
        opened.append(client)
        return client

    yield make
    for client in opened:
        client.__exit__(None, None, None)


def new_job(client, **values):
    answer = client.post("/api/jobs", json={"bundle": "phantom", "name": "a scan", **values})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def put(client, job, path, name=None):
    return client.put(f"/api/jobs/{job}/files/{name or path.name}", content=path.read_bytes())


def finished(client, job, within_s=60):
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        table = client.get(f"/api/jobs/{job}").json()
        if table["state"] in ("finished", "failed", "cancelled"):
            return table
        time.sleep(0.05)
    raise AssertionError(table)


def segmented(client, path):
    job = new_job(client)
    assert put(client, job, path).status_code == 204
    assert client.post(f"/api/jobs/{job}/start").status_code == 202
    return job, finished(client, job)


def test_a_scan_becomes_what_the_command_gives(serve, scan, tmp_path):
    client = serve()
    job, table = segmented(client, scan)
    assert table["state"] == "finished", table["error"]
    answer = client.get(f"/api/jobs/{job}/results/labels.nii.gz")
    (tmp_path / "labels.nii.gz").write_bytes(answer.content)
    labels = np.asarray(nib.load(tmp_path / "labels.nii.gz").dataobj)
    expected = viscera.segment(scan, bundle="phantom").labels
    np.testing.assert_array_equal(labels, expected)
    assert table["report"]["quality"]["liver"]["verdict"] in ("good", "check", "fail")
    assert set(table["results"]) == {
        "labels.nii.gz", "labels.seg.nrrd", "statistics.json", "statistics.csv", "report.json",
        "report.html", "preview.png", "scan.nii.gz",
    }  # fmt: skip
    for name in table["results"]:
        answer = client.get(f"/api/jobs/{job}/results/{name}")
        assert answer.status_code == 200
        assert answer.headers["content-disposition"].startswith("attachment")
    assert client.get(f"/api/jobs/{job}/results/scan.nii.gz").content == scan.read_bytes()
    assert "viscera_jobs_finished_total 1" in client.get("/api/metrics").text
    assert client.delete(f"/api/jobs/{job}").status_code == 204
    assert client.get(f"/api/jobs/{job}").status_code == 404
    assert list((tmp_path / "work").iterdir()) == []


def test_progress_comes_as_events(serve, scan):
    client = serve()
    job = new_job(client)
    put(client, job, scan)
    client.post(f"/api/jobs/{job}/start")
    with client.stream("GET", f"/api/jobs/{job}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
    states = [json.loads(line[6:])["state"] for line in lines]
    assert states[-1] == "finished"


@pytest.mark.hostile(81)
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost.:80"])
def test_another_host_name_is_refused(serve, host):
    client = serve()
    assert client.get("/api/jobs", headers={"host": host}).status_code == 421
    assert client.get("/", headers={"host": host}).status_code == 421
    for good in ("localhost:8765", "127.0.0.1", "[::1]:80"):
        assert client.get("/api/health", headers={"host": good}).status_code == 200


@pytest.mark.hostile(81)
def test_other_addresses_need_a_token():
    with pytest.raises(UsageError, match="token beside an address that others can reach"):
        ServerSettings(host="0.0.0.0")
    with pytest.raises(UsageError, match="at least 12 characters"):
        ServerSettings(token="short", is_token_given=True)
    assert len(ServerSettings().token) >= 24
    assert ServerSettings().token != ServerSettings().token


@pytest.mark.hostile(81, 87)
def test_what_changes_something_needs_the_token(serve, scan):
    client = serve()
    job = new_job(client)
    for method, path in (
        ("POST", "/api/jobs"),
        ("PUT", f"/api/jobs/{job}/files/ct.nii.gz"),
        ("POST", f"/api/jobs/{job}/start"),
        ("DELETE", f"/api/jobs/{job}"),
        ("GET", "/api/jobs"),
        ("GET", f"/api/jobs/{job}/results/labels.nii.gz"),
    ):
        for headers in ({TOKEN_HEADER: ""}, {TOKEN_HEADER: "another one of this length"}):
            answer = client.request(method, path, headers=headers)
            assert answer.status_code == 401, (method, path)
    assert client.get("/api/health", headers={TOKEN_HEADER: ""}).status_code == 200
    assert TOKEN not in client.get("/").text
    bearer = {TOKEN_HEADER: "", "authorization": f"Bearer {TOKEN}"}
    assert client.post("/api/jobs", json={"bundle": "phantom"}, headers=bearer).status_code == 201
    beyond = serve(host="192.0.2.7")
    assert beyond.get("/api/jobs", headers={"host": "192.0.2.7"}).status_code == 200


@pytest.mark.hostile(82)
@pytest.mark.parametrize(
    "name",
    ["../../owner.json", "%2e%2e%2fowner.json", "..%2f..%2fetc%2fpasswd", "%2fetc%2fpasswd",
     "labels.nii.gz%00.txt", "nothing"],
)  # fmt: skip
def test_nothing_but_results_can_be_read(serve, scan, name):
    client = serve()
    job, _ = segmented(client, scan)
    assert client.get(f"/api/jobs/{job}/results/{name}").status_code == 404
    assert client.get(f"/static/{name}").status_code == 404


@pytest.mark.hostile(82)
@pytest.mark.parametrize(
    "name", ["..%2f..%2fescaped.nii.gz", "%2ftmp%2fescaped.nii.gz", "a%00b", "..", "x" * 400,
             "%0a%1b[31m.nii.gz"]
)  # fmt: skip
def test_names_of_uploads_stay_names(serve, scan, tmp_path, name):
    client = serve()
    job = new_job(client)
    answer = client.put(f"/api/jobs/{job}/files/{name}", content=scan.read_bytes())
    assert answer.status_code in (204, 404, 405)
    folder = tmp_path / "work" / job / "input"
    for path in (tmp_path / "work").rglob("*"):
        assert path == folder or path == folder.parent or path.parent == folder
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,120}", path.name)
    assert not list(tmp_path.glob("*escaped*"))


@pytest.mark.hostile(82)
def test_only_what_lies_below_the_data_folder_can_be_named(serve, scan, tmp_path):
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    shutil.copy(scan, data / "sub" / "ct.nii.gz")
    (data / "link").symlink_to(tmp_path)
    client = serve(data=data)
    for source in ("../work", "/etc/passwd", "link", "link/work", "sub/none", "a\0b"):
        answer = client.post("/api/jobs", json={"source": source, "bundle": "phantom"})
        assert answer.status_code == 404, source
        assert str(tmp_path) not in answer.text
    job = new_job(client, source="sub/ct.nii.gz")
    assert client.post(f"/api/jobs/{job}/start").status_code == 202
    assert finished(client, job)["state"] == "finished"
    client.delete(f"/api/jobs/{job}")
    assert (data / "sub" / "ct.nii.gz").exists()
    answer = serve().post("/api/jobs", json={"source": "sub/ct.nii.gz", "bundle": "phantom"})
    assert answer.status_code == 404


@pytest.mark.hostile(83)
def test_uploads_are_bounded(serve, scan, tmp_path):
    client = serve(most_upload_bytes=5000, most_files=2)
    job = new_job(client)
    answer = client.put(f"/api/jobs/{job}/files/big.nii.gz", content=b"\0" * 6000)
    assert answer.status_code == 413
    assert client.get(f"/api/jobs/{job}").json()["bytes"] == 0
    assert list((tmp_path / "work" / job / "input").iterdir()) == []
    for name in ("a", "b"):
        assert client.put(f"/api/jobs/{job}/files/{name}", content=b"x").status_code == 204
    assert client.put(f"/api/jobs/{job}/files/c", content=b"x").status_code == 413
    assert client.post("/api/jobs", content=b"{" + b" " * 20_000).status_code == 413


def test_a_job_starts_when_its_uploads_have_ended(serve, scan, tmp_path):
    """Two files of one name are two; what is deleted or started takes no more."""
    client = serve()
    job = client.jobs.get(new_job(client))
    slow = client.jobs.begin_upload(job, "a.nii.gz")
    assert put(client, job.id, scan, "a.nii.gz").status_code == 204
    answer = client.post(f"/api/jobs/{job.id}/start")
    assert (answer.status_code, answer.json()["error"]) == (409, "the upload has not ended")
    client.jobs.end_upload(job, slow, is_whole=False, received=0)
    assert [path.name for path in job.input_folder.iterdir()] == ["2_a.nii.gz"]
    assert client.post(f"/api/jobs/{job.id}/start").status_code == 202
    assert put(client, job.id, scan).status_code == 409
    assert finished(client, job.id)["state"] == "finished"


@pytest.mark.hostile(83)
def test_a_bomb_gets_its_sentence_and_frees_its_place(serve, tmp_path):
    import gzip

    header = nib.Nifti1Header()
    header.set_data_shape((4000, 4000, 4000))
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(gzip.compress(header.binaryblock + b"\0" * 3_000_000))
    client = serve()
    job, table = segmented(client, path)
    assert table["state"] == "failed"
    assert table["exit_code"] in (3, 7)
    assert "memory_limit_mb" not in table["error"]
    assert "expected" in table["error"]
    assert str(tmp_path) not in table["error"]
    client.delete(f"/api/jobs/{job}")
    assert list((tmp_path / "work").iterdir()) == []


def test_what_is_no_scan_fails_in_the_words_of_the_command(serve, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("no scan")
    client = serve()
    _, table = segmented(client, path)
    assert (table["state"], table["exit_code"]) == ("failed", 4)
    assert table["error"].startswith("expected one scan, found 0 among 1 files; upload a NIfTI")
    empty = new_job(client)
    assert client.post(f"/api/jobs/{empty}/start").status_code == 409
    for body in (
        b"[]",
        b"nonsense",
        b'{"name": 3}',
        b'{"name": "\\ud800"}',
        b'{"more": "x"}',
        b'{"bundle": "none"}',
    ):
        assert client.post("/api/jobs", content=body).status_code == 422


@pytest.mark.slow
@pytest.mark.hostile(84)
def test_fifty_at_once_are_all_served(serve, scan):
    client = serve()
    jobs, errors = [], []

    def one():
        try:
            job = new_job(client)
            put(client, job, scan)
            client.post(f"/api/jobs/{job}/start")
            jobs.append(job)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=one) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(set(jobs)) == 50
    assert {finished(client, job, 240)["state"] for job in jobs} == {"finished"}
    refused = serve(most_jobs=1)
    new_job(refused)
    assert refused.post("/api/jobs", json={"bundle": "phantom"}).status_code == 429


@pytest.mark.hostile(84, 86)
def test_a_cancelled_job_leaves_nothing(serve, tmp_path):
    volume, _ = viscera.make_phantom(3, shape=(160, 120, 72), spacing_mm=(2.4, 2.4, 4.0))
    path = tmp_path / "ct.nii.gz"
    write_volume(path, volume)
    client = serve()
    waiting = []
    for _ in range(3):
        waiting.append(new_job(client))
        put(client, waiting[-1], path)
        client.post(f"/api/jobs/{waiting[-1]}/start")
    while client.get(f"/api/jobs/{waiting[0]}").json()["state"] != "running":
        time.sleep(0.01)
    for job in waiting:
        assert client.delete(f"/api/jobs/{job}").status_code == 204
    end = time.monotonic() + 30
    while list((tmp_path / "work").iterdir()) and time.monotonic() < end:
        time.sleep(0.1)
    assert list((tmp_path / "work").iterdir()) == []
    assert client.get("/api/jobs").json() == []


@pytest.mark.hostile(86)
def test_what_nobody_wants_any_more_is_deleted(serve, scan, tmp_path):
    client = serve(idle_s=0.5, keep_s=0.5)
    new_job(client)  # the browser was closed before the upload
    segmented(client, scan)
    end = time.monotonic() + 20
    while client.get("/api/jobs").json() and time.monotonic() < end:
        time.sleep(0.1)
    assert client.get("/api/jobs").json() == []
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.hostile(85)
def test_answers_allow_nothing_from_elsewhere(serve, scan):
    client = serve()
    job = new_job(client, name=HOSTILE)
    for path in ("/", "/static/app.js", "/api/jobs", f"/api/jobs/{job}", "/api/none"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'self';")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
    assert client.get(f"/api/jobs/{job}").headers["content-type"] == "application/json"
    static = Path(viscera.__file__).parent / "serve" / "static"
    script = (static / "app.js").read_text()
    assert "innerHTML" not in script
    for name in ("index.html", "app.js", "app.css"):
        text = (static / name).read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search("https?://", text)


def test_the_description_names_every_route(serve):
    client = serve()
    described = client.get("/openapi.json").json()
    assert described == json.loads(json.dumps(openapi_description(ServerSettings().networks)))
    routes = {
        (re.sub(r":\w+}", "}", route.path), method.lower())
        for route in client.app.routes
        if hasattr(route, "methods") and route.path.startswith("/api/")
        for method in route.methods - {"HEAD"}
    }
    listed = {
        (path, method)
        for path, calls in described["paths"].items()
        for method in calls
        if method != "parameters"
    }
    assert listed == routes


def test_folders_of_dead_servers_are_swept(tmp_path):
    code = (
        "import sys, time; from pathlib import Path\n"
        "from viscera.serve.work_folder import work_folder\n"
        "with work_folder(Path(sys.argv[1])) as folder:\n"
        "    print(folder, flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    dead = Path(process.stdout.readline().strip())
    (dead / "patient.nii.gz").write_bytes(b"x")
    (tmp_path / "viscera-serve-begins").mkdir()
    assert sweep_dead(tmp_path) == []  # it lives
    process.kill()
    process.communicate()
    with work_folder(tmp_path) as alive:
        assert not dead.exists()
        assert alive.stat().st_mode & 0o077 == 0
        (tmp_path / "viscera-serve-link").symlink_to(alive)
        assert sweep_dead(tmp_path) == []
    assert not alive.exists()


@pytest.fixture
def running(tmp_path):
    """`viscera serve` as a process: address, process, folder for temporary files."""
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "VISCERA_TOKEN": TOKEN}
    (tmp_path / "tmp").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "viscera", "serve", "--port", "0"],
        stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    line = process.stderr.readline()
    address = re.search(r"http://[^ #]*", line)[0]
    yield address, process, tmp_path / "tmp"
    process.kill()
    process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("language", ["sh", "python"])
def test_the_examples_of_the_docs_run(running, scan, tmp_path, language):
    """As they stand, but for the address and the network."""
    text = (Path(__file__).parents[1] / "docs" / "commands" / "serve.md").read_text()
    (example,) = re.findall(rf"```{language}\n(.*?)```", text.partition("## Calls")[2], re.DOTALL)
    example = example.replace("http://127.0.0.1:8765/", running[0])
    example = example.replace('"fast"', '"phantom"')
    shutil.copy(scan, tmp_path / "ct.nii.gz")
    call = ["bash", "-euc", example] if language == "sh" else [sys.executable, "-c", example]
    done = subprocess.run(
        call, cwd=tmp_path, env={**os.environ, "VISCERA_TOKEN": TOKEN}, capture_output=True,
        text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert np.asarray(nib.load(tmp_path / "organs.nii.gz").dataobj).any()


@pytest.mark.slow
def test_generated_calls_get_documented_answers(running, tmp_path):
    """As schemathesis makes them from the description: right ones, wrong ones, whole sequences."""
    schemathesis = Path(sys.executable).with_name("schemathesis")
    if not schemathesis.exists():
        pytest.skip("needs schemathesis, of the extra dev")
    address, _, _ = running
    done = subprocess.run(
        [schemathesis, "run", f"{address}openapi.json", "--header", f"{TOKEN_HEADER}: {TOKEN}",
         "--max-examples", "15", "--exclude-path", "/api/jobs/{job}/events", "--seed", "23",
         "--no-color"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    (generated,) = re.findall(r"(\d+) generated", done.stdout)
    assert int(generated) > 100, done.stdout


@pytest.mark.slow
def test_the_command_serves_and_ends_cleanly(running, scan):
    address, process, folder = running
    with httpx2.Client(base_url=address, headers=HEADERS) as client:
        assert client.get("api/health").json()["status"] == "ok"
        job = new_job(client)
        put(client, job, scan)
        assert len(list(folder.glob("viscera-serve-*"))) == 1
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) in (0, 130)
    assert list(folder.glob("viscera-serve-*")) == []
    assert "Traceback" not in process.stderr.read()


def test_a_taken_port_is_said(running):
    address = running[0]
    port = address.rstrip("/").rsplit(":", 1)[1]
    done = subprocess.run(
        [sys.executable, "-m", "viscera", "serve", "--port", port],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "expected an address of this machine that is free" in done.stderr


@pytest.mark.slow
def test_a_browser_takes_a_scan_from_drop_to_overlay(running, scan, tmp_path):
    """Upload, progress, overlay, an organ off, a volume, a download, a bad file, a reload."""
    if CHROMIUM is None:
        pytest.skip("needs chromium, to look at the page in a browser")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    address = running[0]
    requests, problems = [], []
    with playwright.sync_playwright() as runner:
        browser = runner.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
        )
        tab = browser.new_page(viewport={"width": 1100, "height": 700})
        tab.on("request", lambda request: requests.append(request.url))
        tab.on(
            "console",
            lambda message: problems.append(message.text) if message.type == "error" else None,
        )
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.goto(f"{address}#{TOKEN}")
        tab.wait_for_selector("body[data-ready]", timeout=60_000)
        assert TOKEN not in tab.url
        tab.select_option("#bundle", "phantom")
        tab.set_input_files("#files", scan)
        tab.wait_for_selector("body[data-open]", timeout=120_000)
        tab.select_option("#layout", "axial")
        tab.wait_for_timeout(500)
        with_liver = tab.locator("#view").screenshot()
        tab.get_by_label("Show Liver").uncheck()
        tab.wait_for_timeout(500)
        assert tab.locator("#view").screenshot() != with_liver
        tab.get_by_role("button", name="Spleen", exact=True).click()
        row = tab.locator("#organs tbody tr", has_text="Liver")
        expected = viscera.segment(scan, bundle="phantom")
        assert row.locator("td").nth(1).inner_text().strip("> ") == (
            f"{expected.volumes_ml()['liver']:.0f}"
        )
        with tab.expect_download() as download:
            tab.get_by_role("button", name="labels (NIfTI)").click()
        download.value.save_as(tmp_path / "labels.nii.gz")
        labels = np.asarray(nib.load(tmp_path / "labels.nii.gz").dataobj)
        np.testing.assert_array_equal(labels, expected.labels)
        (tmp_path / "bad.nii.gz").write_bytes(b"no scan")
        tab.set_input_files("#files", tmp_path / "bad.nii.gz")
        failed = tab.locator("#queue li[data-state=failed]")
        failed.wait_for(timeout=60_000)
        assert "expected" in failed.inner_text()
        tab.reload()
        tab.wait_for_selector("#queue[data-seen]", timeout=60_000)
        assert tab.locator("#queue li").count() == 2
        browser.close()
    assert {url for url in requests if not url.startswith((address, "blob:", "data:"))} == set()
    assert problems == []


def test_a_network_of_ones_own_is_offered_and_needs_no_codes(tmp_path):
    pytest.importorskip("pydicom", reason="needs the extra 'dicom'")
    from tests.dicom_series import write_phantom
    from tests.test_structures import own_bundle

    bundle = own_bundle(tmp_path / "own")
    write_phantom(tmp_path / "ct", "axial", spacing_mm=(4.0, 4.0), thick=3.0)
    jobs = JobStore(ServerSettings(bundles=(bundle,)), tmp_path / "jobs")
    assert "test.net" in jobs.networks
    job = jobs.add("scan", "test.net")
    for path in (tmp_path / "ct").iterdir():
        shutil.copy(path, job.input_folder)
    jobs._segment(job)
    assert job.state == "finished"
    assert {label["name"] for label in job.report["labels"]} >= {"blob", "vessels"}
    written = {path.name for path in (job.folder / "results").iterdir()}
    assert {"labels_rtstruct.dcm", "labels.seg.nrrd"} <= written
    assert "labels_seg.dcm" not in written
    with pytest.raises(UsageError, match="twice"):
        _ = ServerSettings(bundles=(bundle, bundle)).networks
