"""The DICOM network: Orthanc as a real peer on loopback, and lines that fail."""

import gc
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings

import pytest

from viscera.errors import InputError, PeerError, UsageError

pytest.importorskip("dicomweb_client", reason="needs the extra pacs")
pytest.importorskip("pynetdicom", reason="needs the extra pacs")
pytest.importorskip("highdicom", reason="needs the extra dicom")

from pydicom import dcmread

from tests.dicom_series import write_phantom
from tests.pacs_peers import ORTHANC, PLUGIN, Orthanc, faulty_line, free_port
from viscera.pacs.credentials import Credentials, read_credentials
from viscera.pacs.dicomweb import DicomWebServer, RetryOptions
from viscera.pacs.ledger import Ledger, LedgerEntry
from viscera.pacs.listen import ListeningNode, ListenOptions
from viscera.pacs.run import PacsOptions, run_pacs
from viscera.pacs.send import DicomNode, send_files
from viscera.pacs.series_filter import RemoteSeries, SeriesFilter
from viscera.predictor import Predictor

# pynetdicom leaves the sockets of refused connections to the collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

STUDY = "1.2.826.0.1.3680043.8.498.9"
SERIES = ("1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.2")
QUICK = RetryOptions(tries=4, first_wait_s=0.05, timeout_s=1.0)
STORESCU = shutil.which("storescu")
DCIODVFY = shutil.which("dciodvfy")


@pytest.fixture(autouse=True)
def no_sockets_left():
    """They would be noticed in another test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Folders of two series of one study."""
    top = tmp_path_factory.mktemp("scans")
    folders = []
    for n, uid in enumerate(SERIES):
        folder = top / f"s{n}"

        def edit(data, k, uid=uid, n=n):
            data.SeriesInstanceUID = uid
            data.SOPInstanceUID = f"{uid}.{k + 1}"
            data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
            data.SeriesDescription = ("portal abdomen", "native thorax")[n]
            data.StudyDescription, data.StudyTime, data.StudyID = "CT", "101010", "1"
            data.AccessionNumber, data.PatientSex, data.ReferringPhysicianName = "A1", "O", ""
            data.SeriesNumber = n + 1

        write_phantom(folder, "axial", thick=4.0, seed=7 + n, edit=edit)
        folders.append(folder)
    return folders


@pytest.fixture
def orthanc(tmp_path):
    """An archive with the DICOMweb plugin."""
    if ORTHANC is None or not PLUGIN.exists():
        pytest.skip("needs Orthanc and its DICOMweb plugin (orthanc, orthanc-dicomweb of Debian)")
    archive = Orthanc(tmp_path / "orthanc")
    yield archive
    archive.stop()


@pytest.fixture(scope="module")
def predictor():
    return Predictor("phantom")


def stored_files(archive, modality, folder):
    """Files of a modality that the archive holds."""
    folder.mkdir(exist_ok=True)
    for uid in archive.get("instances"):
        if archive.get(f"instances/{uid}/simplified-tags")["Modality"] == modality:
            path = folder / f"{uid}.dcm"
            path.write_bytes(archive.call(f"instances/{uid}/file"))
            yield path


def check_results(archive, scans, folder):
    """SEG and RTSTRUCT lie in the study of the series that they refer to, one of each a series."""
    assert archive.modalities() == ["CT", "CT", "RTSTRUCT", "RTSTRUCT", "SEG", "SEG"]
    assert len(archive.get("studies")) == 1
    segs = list(stored_files(archive, "SEG", folder))
    plans = list(stored_files(archive, "RTSTRUCT", folder))
    referred = set()
    for path in segs:
        data = dcmread(path)
        assert data.StudyInstanceUID == STUDY
        referred.add(data.ReferencedSeriesSequence[0].SeriesInstanceUID)
    assert referred == set(SERIES)
    if DCIODVFY is not None:
        for path in (*segs, *plans):
            said = subprocess.run([DCIODVFY, path], capture_output=True, text=True, check=False)
            assert not re.search(r"^Error", said.stderr, re.MULTILINE), said.stderr


# ---- DICOMweb


@pytest.mark.slow
def test_series_of_an_archive_get_seg_and_rtstruct_there(orthanc, scans, tmp_path):
    """By the command: a dry run, a run, a second run that does nothing."""
    for folder in scans:
        orthanc.put(folder)
    call = [sys.executable, "-m", "viscera", "pacs", "run", orthanc.address, "-b", "phantom",
            "-o", str(tmp_path / "out")]  # fmt: skip
    dry = subprocess.run([*call, "--dry-run"], capture_output=True, text=True, check=True)
    assert "2 series: 2 found" in dry.stderr
    assert orthanc.modalities() == ["CT", "CT"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "2 series: 2 sent" in done.stderr
    assert "SECRET" not in done.stderr.upper()
    check_results(orthanc, scans, tmp_path / "stored")
    assert list((tmp_path / "out" / "scans").iterdir()) == []
    again = subprocess.run(call, capture_output=True, text=True, check=True)
    assert "2 series: 2 done before" in again.stderr
    assert len(orthanc.get("instances")) == sum(len(list(f.iterdir())) for f in scans) + 4


@pytest.mark.slow
def test_pull_and_push_are_the_two_ends(orthanc, scans, tmp_path):
    import viscera
    from viscera.cli.main import viscera as command_line

    orthanc.put(scans[0])
    out = tmp_path / "pulled"
    command_line.main(
        ["pacs", "pull", orthanc.address, "-o", str(out), "--description", "*ABDOMEN*"],
        standalone_mode=False,
    )
    (folder,) = out.iterdir()
    assert folder.name == SERIES[0]
    assert len(list(folder.iterdir())) == len(list(scans[0].iterdir()))
    segmentation = viscera.segment(folder, bundle="phantom")
    segmentation.save(tmp_path / "results" / "a_seg.dcm")
    command_line.main(
        ["pacs", "push", orthanc.address, str(tmp_path / "results")], standalone_mode=False
    )
    assert orthanc.modalities() == ["CT", "SEG"]


@pytest.mark.slow
def test_what_fails_is_tried_again_and_nothing_is_done_twice(orthanc, scans, tmp_path, predictor):
    """A server that answers 500, cuts the line, or is slow, at each kind of request."""
    orthanc.put(scans[0])
    images = len(list(scans[0].iterdir()))
    faults = ["GET 500", "GET cut", "GET slow", "GET ok", "GET cut", "GET 500", "POST 500",
              "POST cut", "POST slow", "POST ok", "POST cut"]  # fmt: skip
    with faulty_line(orthanc.address, faults) as (address, seen):
        server = DicomWebServer(address, retry=QUICK)
        (result,) = run_pacs(server, tmp_path / "out", predictor, PacsOptions())
    assert result.state == "sent", result.error
    assert faults == [], seen
    assert orthanc.modalities() == ["CT", "RTSTRUCT", "SEG"]
    assert len(orthanc.get("instances")) == images + 2  # what came twice is there once


@pytest.mark.slow
def test_a_server_that_does_not_recover_is_reported_and_gone_on_with(
    orthanc, scans, tmp_path, predictor
):
    for folder in scans:
        orthanc.put(folder)
    with faulty_line(orthanc.address, ["POST 500"] * 8) as (address, _):
        server = DicomWebServer(address, retry=QUICK)
        results = run_pacs(server, tmp_path / "out", predictor, PacsOptions())
    assert [result.state for result in results] == ["failed", "failed"]
    assert isinstance(results[0].error, PeerError)
    text = (tmp_path / "out" / "failures.csv").read_text()
    assert text.count("status 500, 4 times") == 2
    made = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.dcm")}
    assert len(made) == 4
    server = DicomWebServer(orthanc.address, retry=QUICK)
    results = run_pacs(server, tmp_path / "out", predictor, PacsOptions())
    assert [result.state for result in results] == ["sent", "sent"]
    assert not (tmp_path / "out" / "failures.csv").exists()
    # The same files were sent; nothing was segmented again.
    assert made == {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.dcm")}
    assert orthanc.modalities().count("SEG") == 2


@pytest.mark.slow
def test_a_series_that_has_grown_is_done_again(orthanc, scans, tmp_path, predictor):
    files = sorted(scans[0].iterdir())
    for path in files[:-1]:
        orthanc.call("instances", path.read_bytes())
    server = DicomWebServer(orthanc.address, retry=QUICK)
    assert run_pacs(server, tmp_path / "out", predictor, PacsOptions())[0].state in (
        "sent",
        "failed",
    )
    orthanc.call("instances", files[-1].read_bytes())
    (result,) = run_pacs(server, tmp_path / "out", predictor, PacsOptions())
    assert result.state == "sent", result.error
    ledger = Ledger(tmp_path / "out" / ".viscera" / "pacs")
    assert ledger.get(SERIES[0]) == LedgerEntry("sent", len(files))


@pytest.mark.slow
def test_credentials_come_from_the_environment_and_are_nowhere_shown(scans, tmp_path):
    if ORTHANC is None or not PLUGIN.exists():
        pytest.skip("needs Orthanc and its DICOMweb plugin")
    archive = Orthanc(tmp_path / "orthanc", user="reader", password="pass-phrase-7")
    try:
        archive.put(scans[0])
        call = [sys.executable, "-m", "viscera", "pacs", "pull", archive.address,
                "-o", str(tmp_path / "out"), "--tries", "1"]  # fmt: skip
        plain = {k: v for k, v in os.environ.items() if not k.startswith("VISCERA_PACS")}
        refused = subprocess.run(call, capture_output=True, text=True, check=False, env=plain)
        assert refused.returncode == 10
        assert "found status 401" in refused.stderr
        known = {**plain, "VISCERA_PACS_USER": "reader", "VISCERA_PACS_PASSWORD": "pass-phrase-7"}
        done = subprocess.run(call, capture_output=True, text=True, check=True, env=known)
        assert "1 series: 1 fetched" in done.stderr
        wrong = {**known, "VISCERA_PACS_PASSWORD": "pass-phrase-8"}
        again = subprocess.run(call, capture_output=True, text=True, check=False, env=wrong)
        assert again.returncode == 10
        assert "pass-phrase" not in refused.stderr + done.stderr + again.stderr
    finally:
        archive.stop()


def test_an_address_that_would_show_credentials_is_refused():
    known = Credentials(user="reader", password="pass-phrase-7")
    assert "pass-phrase" not in repr(known)
    for address in (
        "https://reader:pass-phrase-7@pacs.example/dicom-web",
        "ftp://pacs.example",
        "x",
    ):
        with pytest.raises(UsageError) as raised:
            DicomWebServer(address)
        assert "pass-phrase" not in str(raised.value)
    with pytest.raises(UsageError, match="plain_http"):
        DicomWebServer("http://pacs.example/dicom-web", credentials=known)
    DicomWebServer("http://127.0.0.1:1/dicom-web", credentials=known)
    DicomWebServer("http://pacs.example/x", credentials=known, plain_http=True)


def test_files_of_credentials(tmp_path):
    path = tmp_path / "credentials.toml"
    path.write_text('user = "a"\npassword = "b"\n')
    assert read_credentials(path) == Credentials("a", "b")
    assert read_credentials(None, {"VISCERA_PACS_TOKEN": "t"}).token == "t"
    assert not read_credentials(None, {})
    with pytest.raises(UsageError, match="end of a line"):
        read_credentials(None, {"VISCERA_PACS_TOKEN": "t\n"})
    for text in ('user = "a"', 'user = "a"\npassword = "b"\ntoken = "c"', "secret", "", "user = 3"):
        path.write_text(text)
        with pytest.raises(UsageError):
            read_credentials(path)
    with pytest.raises(UsageError):
        read_credentials(tmp_path / "none.toml")


def test_redirects_are_not_followed(tmp_path):
    """Else a server could have images sent to another machine."""
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Redirect(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(307)
            self.send_header("Location", "http://127.0.0.1:9/dicom-web/studies")
            self.end_headers()

        def log_message(self, *_arguments):
            """Keep quiet."""

    server = HTTPServer(("127.0.0.1", 0), Redirect)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}/dicom-web"
        with pytest.raises(PeerError, match="redirect"):
            list(DicomWebServer(address, retry=QUICK).find(SeriesFilter()))
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    "answer",
    ["[1]", "[null]", '[{"0020000D": 5}]', '[{"0020000D": {"Value": {"a": 1}}}]', "{", "[{}]"],
)
def test_answers_that_are_no_dicomweb_are_said(answer):
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Nonsense(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, *_arguments):
            """Keep quiet."""

    server = HTTPServer(("127.0.0.1", 0), Nonsense)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}/dicom-web"
        quick = RetryOptions(tries=2, first_wait_s=0.01, timeout_s=2)
        with pytest.raises(PeerError, match="no DICOMweb, 2 times"):
            list(DicomWebServer(address, retry=quick).find(SeriesFilter()))
    finally:
        server.shutdown()
        server.server_close()


def test_a_filter_takes_what_it_says():
    series = RemoteSeries("1", "2", "CT", 120, "20260105", "CT Abdomen", "portal 1.0")
    assert SeriesFilter().takes(series)
    assert SeriesFilter(description="*abdomen*").takes(series)
    assert not SeriesFilter(description="thorax").takes(series)
    assert not SeriesFilter(modality="MR").takes(series)
    assert not SeriesFilter(least_images=121).takes(series)
    assert not SeriesFilter(series="3").takes(series)
    for date in ("20260105", "20260101-20260131", "20260101-", "-20260131", ""):
        SeriesFilter(date=date).check()
    for date in ("2026", "-", "20260101 20260131", "today"):
        with pytest.raises(UsageError, match="a date such as"):
            SeriesFilter(date=date).check()


def test_a_ledger_keeps_what_was_done(tmp_path):
    ledger = Ledger(tmp_path / "state")
    ledger.note("1.2", LedgerEntry("segmented", 30))
    other = Ledger(tmp_path / "state")  # of another process
    other.note("1.3", LedgerEntry.of_failure(2, UsageError("a", found="b", remedy="c")))
    ledger.note_sent("1.2")
    assert other.get("1.2") == LedgerEntry("sent", 30)
    assert ledger.of_state("failed")["1.3"].error().exit_code == 2
    assert ledger.get("1.4") is None
    (tmp_path / "state" / "1.2.json").write_text('{"state": "other", "images": 3}')
    with pytest.raises(InputError, match="remove it"):
        ledger.get("1.2")


# ---- C-STORE


@pytest.fixture
def listen(tmp_path, predictor):
    """Starts nodes with these options."""
    nodes = []

    def make(folder=tmp_path / "node", **options):
        events = []
        chosen = ListenOptions(port=0, quiet_s=1.0, **options)
        node = ListeningNode(folder, predictor, chosen, on_event=events.append)
        node.start()
        node.events = events
        nodes.append(node)
        return node

    yield make
    for node in nodes:
        node.stop()


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


@pytest.mark.slow
def test_series_sent_by_c_store_come_back_as_seg_and_rtstruct(orthanc, scans, tmp_path):
    """The command, with dcmtk's storescu as the scanner and Orthanc as the archive."""
    if STORESCU is None:
        pytest.skip("needs storescu, of dcmtk")
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "viscera", "listen", "-o", str(tmp_path / "node"), "-b", "phantom",
         "--port", str(port), "--to", f"ORTHANC@127.0.0.1:{orthanc.dicom}", "--quiet-time", "1",
         "--allow", "SCANNER"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert "listens on" in process.stderr.readline()
        send = [STORESCU, "-aec", "VISCERA", "+sd", "127.0.0.1", str(port)]
        stranger = subprocess.run(
            [*send, "-aet", "STRANGER", scans[0]], capture_output=True, check=False
        )
        assert stranger.returncode != 0
        for folder in scans:
            orthanc.put(folder)
            subprocess.run([*send, "-aet", "SCANNER", folder], check=True, capture_output=True)
        wait_for(lambda: orthanc.modalities().count("RTSTRUCT") == 2)
    finally:
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert said.count("sent to ORTHANC") == 2, said
    assert "SECRET" not in said.upper()
    assert "Traceback" not in said
    check_results(orthanc, scans, tmp_path / "stored")


@pytest.mark.slow
def test_a_target_that_is_away_gets_the_results_later_each_once(orthanc, scans, tmp_path, listen):
    """Also after the node was stopped and started again."""
    target = DicomNode("ORTHANC", "127.0.0.1", free_port())
    node = listen(target=target)
    me = DicomNode("VISCERA", "127.0.0.1", node.port)
    send_files(sorted(scans[0].iterdir()), me)
    wait_for(lambda: any("tried again" in text for text in node.events))
    node.stop()
    node = listen(target=DicomNode("ORTHANC", "127.0.0.1", orthanc.dicom))
    wait_for(lambda: any("sent to ORTHANC" in text for text in node.events))
    assert orthanc.modalities() == ["RTSTRUCT", "SEG"]
    assert not any("segmented" in text for text in node.events)  # that was done before
    time.sleep(1.5)
    assert len(node.events) == 1


@pytest.mark.slow
def test_images_that_come_late_make_the_series_anew(scans, tmp_path, listen):
    node = listen()
    me = DicomNode("VISCERA", "127.0.0.1", node.port)
    files = sorted(scans[0].iterdir(), key=lambda path: dcmread(path).ImagePositionPatient[2])
    send_files(files[:-2], me)
    wait_for(lambda: len(node.events) == 1)
    send_files(files[-2:], me)
    wait_for(lambda: len(node.events) == 2)
    assert f"{len(files)} images, segmented" in node.events[1]
    seg = dcmread(tmp_path / "node" / f"{SERIES[0]}_seg.dcm")
    assert len(seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == len(files)


@pytest.mark.slow
def test_a_part_that_comes_again_does_not_replace_the_whole(scans, tmp_path, listen):
    """After the images were deleted; the whole series may come again."""
    node = listen(keep_s=1.0)
    me = DicomNode("VISCERA", "127.0.0.1", node.port)
    files = sorted(scans[0].iterdir())
    send_files(files, me)
    folder = tmp_path / "node" / "incoming" / SERIES[0]
    wait_for(lambda: len(node.events) == 1)
    wait_for(lambda: not folder.exists())
    made = (tmp_path / "node" / f"{SERIES[0]}_seg.dcm").read_bytes()
    send_files(files[:5], me)
    wait_for(lambda: not folder.exists())
    assert len(node.events) == 1
    assert (tmp_path / "node" / f"{SERIES[0]}_seg.dcm").read_bytes() == made


@pytest.mark.slow
def test_a_series_that_the_target_refuses_does_not_hinder_the_next(scans, tmp_path, listen):
    """The target takes the second series only; the first is tried again and again."""
    from pynetdicom import AE, evt

    taken = []

    def take(event):
        refers = event.dataset.get("ReferencedSeriesSequence")
        if refers and refers[0].SeriesInstanceUID == SERIES[0]:
            return 0xA900
        taken.append(event.dataset.Modality)
        return 0x0000

    entity = AE(ae_title="ARCHIVE")
    for uid in ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.481.3"):
        entity.add_supported_context(uid)
    server = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, take)]
    )
    try:
        node = listen(target=DicomNode("ARCHIVE", "127.0.0.1", server.server_address[1]))
        me = DicomNode("VISCERA", "127.0.0.1", node.port)
        for folder in scans:
            send_files(sorted(folder.iterdir()), me)
        wait_for(lambda: any(f"{SERIES[1]}: sent" in text for text in node.events))
        wait_for(lambda: sum("status 0xa900" in text for text in node.events) >= 2)
    finally:
        node.stop()
        server.shutdown()
    assert taken == ["SEG", "RTSTRUCT"]


@pytest.mark.slow
def test_a_full_disk_is_waited_for(scans, tmp_path, listen, monkeypatch):
    """What fails for now is not given up, and its images stay."""
    from viscera.errors import OutputError
    from viscera.pacs import listen as module

    real, calls = module.segment_series, []

    def full(*arguments, **options):
        calls.append(1)
        if len(calls) < 3:
            raise OutputError("space", found="a full disk", remedy="make room")
        real(*arguments, **options)

    monkeypatch.setattr(module, "segment_series", full)
    node = listen(keep_s=0.5)
    send_files(sorted(scans[0].iterdir()), DicomNode("VISCERA", "127.0.0.1", node.port))
    wait_for(lambda: any("segmented" in text for text in node.events))
    assert [("tried again" in text) for text in node.events] == [True, True, False]
    assert not (tmp_path / "node" / "failures.csv").exists()


def test_what_is_no_image_is_answered_and_left_out(scans, tmp_path, listen):
    """UIDs that lead out of the folder, another class, a text: each gets its status."""
    from pynetdicom import AE

    node = listen()
    files = sorted(scans[0].iterdir())
    entity = AE(ae_title="SCANNER")
    data = dcmread(files[0])
    entity.add_requested_context(data.SOPClassUID, data.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", node.port, ae_title="VISCERA")
    assert association.is_established
    for uid in ("../../evil", "1.2/3", "", "1" * 65):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's, on such values
            data.SeriesInstanceUID = uid
        assert association.send_c_store(data).Status == 0xC000
    data.SeriesInstanceUID = SERIES[0]
    assert association.send_c_store(data).Status == 0x0000
    association.release()
    names = {path.name for path in (tmp_path / "node" / "incoming").rglob("*")}
    assert names == {SERIES[0], f"{SERIES[0]}.1.dcm"} or len(names) == 2
    assert not (tmp_path / "evil").exists()
    wrong_title = entity.associate("127.0.0.1", node.port, ae_title="OTHER")
    assert not wrong_title.is_established


def test_a_node_that_others_reach_must_name_them():
    with pytest.raises(UsageError, match="allow"):
        ListenOptions(host="0.0.0.0").check()
    ListenOptions(host="0.0.0.0", allow=("SCANNER",)).check()
    for title in ("A TITLE THAT IS TOO LONG", "ÄRCHIV", "", " ", "A\\B"):
        with pytest.raises(UsageError, match="AE titles"):
            ListenOptions(title=title).check()


def test_nodes_are_written_in_one_way():
    assert DicomNode.parse("ORTHANC@127.0.0.1:4242") == DicomNode("ORTHANC", "127.0.0.1", 4242)
    assert DicomNode.parse("A B@[::1]:104").host == "::1"
    for text in (
        "ORTHANC",
        "ORTHANC@host",
        "@host:1",
        "A@host:0",
        "A@host:99999",
        "x" * 17 + "@h:1",
        "Ä@h:1",
    ):
        with pytest.raises(UsageError, match="TITLE@HOST:PORT"):
            DicomNode.parse(text)


@pytest.mark.slow
def test_associations_by_tls_need_certificates_of_the_authority(scans, tmp_path, listen):
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl, to make certificates")
    from viscera.pacs.tls import TlsFiles

    def certificate(name):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
             "-keyout", tmp_path / f"{name}.key", "-out", tmp_path / f"{name}.pem",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
            check=True, capture_output=True,
        )  # fmt: skip
        return TlsFiles(tmp_path / f"{name}.pem", tmp_path / f"{name}.key", tmp_path / "a.pem")

    known, stranger = certificate("a"), certificate("b")
    node = listen(tls=known)
    me = DicomNode("VISCERA", "127.0.0.1", node.port)
    files = sorted(scans[0].iterdir())[:1]
    for tls in (None, stranger):
        with pytest.raises(PeerError):
            send_files(files, me, tls=tls)
    with socket.create_connection(("127.0.0.1", node.port)):  # says nothing: others go on
        send_files(files, me, tls=known)
    assert len(list((tmp_path / "node" / "incoming").rglob("*.dcm"))) == 1
    with pytest.raises(UsageError, match="PEM"):
        TlsFiles(files[0], files[0], files[0]).context(is_server=True)
