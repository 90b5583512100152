from hypothesis import given
from hypothesis import strategies as st

from registry.class_index import ClassIndex
from registry.device_classes import DeviceClass, DeviceProfile, Selector, match

names = st.sampled_from(("a", "b"))
some = st.lists(names, max_size=2).map(tuple)
selectors = st.builds(
    Selector,
    os=some,
    soc=some,
    device_include=some,
    device_exclude=st.sampled_from(((), (), ("a",))),
    ram_mb_max=st.sampled_from((None, None, 1)),
)
profiles = st.builds(
    DeviceProfile, os=names, soc=names | st.just(""), device=names | st.just(""), ram_mb=st.none() | st.integers(0, 2)
)


@given(st.lists(selectors, max_size=12), profiles)
def test_it_finds_what_going_through_all_of_them_finds(rules, profile):
    classes = [DeviceClass(str(place), rule, ()) for place, rule in enumerate(rules)]
    assert ClassIndex(classes).find(profile) == match(profile, classes).device_class


def test_a_class_for_one_chip_costs_the_others_nothing(monkeypatch):
    """Of 300 classes a profile is compared with those of its own device, chip and system."""
    narrow = [DeviceClass(f"d{n}", Selector(device_include=(f"acme/{n}",)), ()) for n in range(150)]
    narrow += [DeviceClass(f"s{n}", Selector(os=("android",), soc=(f"SM{n}",)), ()) for n in range(150)]
    index = ClassIndex([*narrow, DeviceClass("any", Selector(), ())])
    compared = []
    mismatch = Selector.mismatch

    def counting(selector, profile):
        compared.append(selector)
        return mismatch(selector, profile)

    monkeypatch.setattr(Selector, "mismatch", counting)
    found = index.find(DeviceProfile("android", device="acme/7", soc="SM7"))
    assert (found.name, len(compared)) == ("d7", 1)
    assert index.find(DeviceProfile("linux", device="other", soc="SM999")).name == "any"
    assert len(compared) == 2
