"""Pages: they open offline, ask for nothing, escape names; surfaces are closed."""

import base64
import hashlib
import html
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import viscera
from viscera.cli.main import viscera as command
from viscera.core.affine import Affine
from viscera.core.organs import ORGANS
from viscera.core.volume import Volume
from viscera.errors import BatchError, OutputError
from viscera.io.write import write_volume
from viscera.report.html.case_record import CaseRecord, read_case_record
from viscera.report.html.cohort_page import cohort_page
from viscera.report.html.page import LIBRARY, content_policy, read_part
from viscera.report.html.surfaces import organ_surfaces, surface_net

LIBRARY_SHA256 = "8a5f7249903b54d30f79f708699d2fed2d6a1d0741a4cd41377d1f01bb5a2271"
HOSTILE = '<img src=x onerror=alert(1)>"</script>'
CHROMIUM = shutil.which("chromium")


def run(*arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of a phantom."""
    folder = tmp_path_factory.mktemp("page")
    volume, _ = viscera.make_phantom(4, shape=(80, 64, 40), spacing_mm=(4.5, 4.5, 7.0))
    write_volume(folder / "case.nii.gz", volume)
    run("segment", folder / "case.nii.gz", "-o", folder / "out.nii.gz", "-b", "phantom", "--html")
    return folder / "out.html"


def volume_of(surface):
    a, b, c = (surface.points_mm[surface.triangles[:, n]].astype(float) for n in range(3))
    return np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6


@pytest.mark.parametrize("signs", [(-1, -1, 1), (1, 1, 1), (1, -1, 1)])
def test_surfaces_are_closed_and_turn_outwards(signs):
    labels = np.zeros((50, 44, 40), np.uint8, order="F")
    i, j, k = np.indices(labels.shape)
    labels[((i - 25) / 18) ** 2 + ((j - 22) / 15) ** 2 + ((k - 20) / 12) ** 2 < 1] = 3
    affine = Affine(np.diag([2.0 * s for s in signs] + [1]))
    (surface,) = organ_surfaces(labels, affine, [3, 4]).values()
    edges = np.concatenate([surface.triangles[:, pair] for pair in ([0, 1], [1, 2], [2, 0])])
    _, counts = np.unique(np.sort(edges, axis=1), axis=0, return_counts=True)
    assert set(counts.tolist()) == {2}
    # Smoothing rounds what is convex; the place stays.
    assert volume_of(surface) == pytest.approx((labels == 3).sum() * 8, rel=0.1)
    middle = np.argwhere(labels == 3).mean(axis=0) * 2 * signs
    np.testing.assert_allclose(surface.points_mm.mean(axis=0), middle, atol=0.3)


def test_a_plane_lies_where_the_field_crosses():
    ramp = np.broadcast_to(np.linspace(1, 0, 11)[:, None, None], (11, 9, 9))
    points, _ = surface_net(np.pad(ramp, 1).astype(np.float32), 0.33)
    end = points[(np.abs(points[:, 1:] - 5) < 2).all(axis=1) & (points[:, 0] > 3)]
    np.testing.assert_allclose(end[:, 0], 1 + 6.7, atol=1e-5)


def test_the_vendored_script_is_the_pinned_one():
    path = Path(viscera.__file__).parent / "report" / "html" / LIBRARY
    assert hashlib.sha256(path.read_bytes()).hexdigest() == LIBRARY_SHA256
    assert "MIT License" in (path.parent / "three-LICENSE.txt").read_text()


def test_a_page_asks_for_nothing(page):
    text = page.read_text()
    assert page.stat().st_size < 5e6
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith("default-src &#39;none&#39;; img-src data:; ")
    assert "unsafe" not in policy
    without_library = text.replace(read_part(LIBRARY), "")
    assert not re.search("https?:", without_library)
    assert not re.search(r'\b(src|href)="(?!data:)', without_library)
    # Every script and style is one that the policy allows, as it stands.
    for tag in ("script", "style"):
        for body in re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL):
            digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
            assert f"sha256-{digest}" in policy
    assert 'style="' not in without_library
    assert "onclick" not in without_library


def test_a_page_says_what_the_report_says(page):
    text = page.read_text()
    record = read_case_record(page)
    assert record.name == "case"
    for organ in ORGANS:
        assert organ.title in text
    assert set(record.verdicts) == {organ.name for organ in ORGANS}
    assert text.count("data:image/jpeg") == sum(ml > 0 for ml in record.volumes_ml.values())


def test_hostile_names_stay_text(tmp_path):
    volume, labels = viscera.make_phantom(4, shape=(48, 40, 28), spacing_mm=(7.5, 7.0, 10.0))
    segmentation = viscera.Segmentation(
        labels, Volume.of(volume.data, volume.affine, name=HOSTILE), ORGANS
    )
    record = CaseRecord.of(segmentation)
    text = cohort_page({f"{HOSTILE}.html": record}, {HOSTILE: HOSTILE})
    assert HOSTILE not in text
    assert "<img" not in text
    assert "</script" not in record.to_json()
    assert json.loads(record.to_json())["name"] == HOSTILE


def test_a_batch_has_a_page_with_links(tmp_path):
    for name in ("a", "b"):
        volume, _ = viscera.make_phantom(
            ord(name), shape=(48, 40, 28), spacing_mm=(7.5, 7.0, 10.0), noise_hu=5
        )
        write_volume(tmp_path / "in" / f"{name}.nii.gz", volume)
    call = ("segment", tmp_path / "in", "-o", tmp_path / "out", "-b", "phantom", "--html")
    run(*call)
    cohort = tmp_path / "out" / "cohort.html"
    text = cohort.read_text()
    for name in ("a", "b"):
        assert f'<a href="{name}.html">{name}</a>' in text
        assert (tmp_path / "out" / f"{name}.html").exists()
    cohort.unlink()
    assert "done before" in run(*call).stderr
    assert cohort.read_text() == text  # made of the pages, whoever wrote them
    (tmp_path / "in" / "bad.nii.gz").write_bytes(b"no scan")
    shutil.copy(tmp_path / "in" / "a.nii.gz", tmp_path / "in" / "cohort.nii.gz")
    with pytest.raises(BatchError):
        run(*call)
    assert re.search(r"bad\.nii\.gz</span>: .*expected", cohort.read_text())
    assert (tmp_path / "out" / "cohort_2.html").exists()
    cohort.write_text("my own notes")
    with pytest.raises(OutputError, match="a file that viscera did not write"):
        run(*call)
    assert cohort.read_text() == "my own notes"


def test_what_deserves_a_look_comes_first():
    def record(name, *verdicts):
        organs = [organ.name for organ in ORGANS]
        table = dict(zip(organs, verdicts, strict=False))
        return CaseRecord(name, "", dict.fromkeys(organs, 10.0), table, {}, [], [])

    records = {
        f"{name}.html": record(name, *verdicts)
        for name, verdicts in {
            "fine": ["good"] * 13, "failed": ["fail"], "doubtful": ["check", "check"],
        }.items()
    }  # fmt: skip
    text = cohort_page(records, {})
    places = [text.index(f">{name}</a>") for name in ("failed", "doubtful", "fine")]
    assert places == sorted(places)


def test_a_policy_names_each_script():
    policy = content_policy("s", ["a", "b"])
    assert policy.count("sha256-") == 3
    assert content_policy("s", []).count("'none'") == 4


def test_a_notebook_shows_the_page_in_a_frame():
    volume, _ = viscera.make_phantom(4, shape=(48, 40, 28), spacing_mm=(7.5, 7.0, 10.0))
    view = viscera.segment(volume, bundle="phantom").show(height_px=400)
    frame = view._repr_html_()
    assert frame.startswith('<iframe title="viscera" sandbox="allow-scripts"')
    assert 'height="400"' in frame
    page = html.unescape(re.search(r'srcdoc="([^"]*)"', frame, re.DOTALL)[1])
    assert page.startswith("<!DOCTYPE html>")
    assert view._repr_png_().startswith(b"\x89PNG")


@pytest.fixture
def browser():
    """Debian's Chromium, drawing with the CPU."""
    if CHROMIUM is None:
        pytest.skip("needs chromium, to look at pages in a browser")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, for Chromium")
    with playwright.sync_playwright() as runner:
        browser = runner.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
        )
        yield browser
        browser.close()


@pytest.mark.slow
def test_a_browser_draws_and_turns_the_organs_and_asks_for_nothing(browser, page):
    tab = browser.new_page(viewport={"width": 1200, "height": 900})
    requests, messages = [], []
    tab.on("request", lambda request: requests.append(request.url))
    tab.on("console", lambda message: messages.append(f"{message.type}: {message.text}"))
    tab.on("pageerror", lambda error: messages.append(str(error)))
    tab.goto(page.as_uri())
    tab.wait_for_selector("#surfaces[data-turn]")
    view = tab.locator("#surfaces")
    before = view.screenshot()
    box = view.bounding_box()
    tab.mouse.move(box["x"] + 200, box["y"] + 200)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 300, box["y"] + 210, steps=4)
    tab.mouse.up()
    assert float(view.get_attribute("data-turn")) > 0.5
    turned = view.screenshot()
    assert turned != before
    tab.locator("input[data-organ=liver]").uncheck()
    assert view.screenshot() != turned
    assert {url.partition(":")[0] for url in requests} <= {"file", "data"}
    assert [m for m in messages if not m.startswith("warning: [.WebGL")] == []


@pytest.mark.slow
def test_a_browser_sorts_the_cohort(browser, tmp_path):
    organs = [organ.name for organ in ORGANS]
    records = {
        f"{name}.html": CaseRecord(name, "", dict.fromkeys(organs, ml), {}, {}, [], [])
        for name, ml in (("a", 9.0), ("b", 100.0), ("c", 20.0))
    }
    path = tmp_path / "cohort.html"
    path.write_text(cohort_page(records, {}))
    tab = browser.new_page()
    tab.goto(path.as_uri())
    tab.get_by_role("button", name="Liver, ml").click()
    assert tab.locator("tbody a").all_text_contents() == ["b", "c", "a"]
    tab.get_by_role("button", name="Liver, ml").click()
    assert tab.locator("tbody a").all_text_contents() == ["a", "c", "b"]
