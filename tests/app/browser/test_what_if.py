"""The page What-if in a real browser."""

from mixtral_probe import Probe
from tests.support.browser import PATIENCE, needs_chromium
from tests.support.what_ifs import edited_totals

pytestmark = needs_chromium
TEXT = "one two three"


def test_edits_of_two_readers_at_once_do_not_mix(address, browser):
    readers = {expert: browser.new_context().new_page() for expert in (1, 3)}
    for expert, reader in readers.items():
        reader.set_default_timeout(PATIENCE)
        reader.goto(f"{address}/what_if?text={TEXT}&edit_expert={expert}", wait_until="commit")
    probe = Probe.from_pretrained("mini")
    for expert, reader in readers.items():
        value = reader.get_by_test_id("stMetric").filter(has_text="change of the loss").first
        row = edited_totals(probe, TEXT, f"mask_expert layer=0..7 expert={expert}").loc["loss_change"]
        assert f"{row['value']:+.3f}" in value.inner_text().replace("−", "-")
        reader.context.close()
