"""Random expressions of the language of selections, for hypothesis."""

from hypothesis import strategies as st

from mixtral_probe.selection import SLICES, nodes, parse

texts = st.text(st.characters(codec=None), max_size=8)
numbers = st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6)
names = st.sampled_from(
    [nodes.Name(name) for name in ("layer", "token.word", "label.domain", "größe", "notes", "inner")]
)
names |= st.builds(nodes.Name, st.just("weight"), st.integers(0, 9)) | st.builds(nodes.Name, st.just("label"), texts)
values = st.builds(nodes.Value, numbers | texts | st.booleans())
number_values = st.builds(nodes.Value, numbers)


@st.composite
def ranges(draw):
    low, high = sorted((draw(number_values), draw(number_values)), key=lambda value: value.value)
    return nodes.Range(*draw(st.sampled_from([(low, high), (low, None), (None, high)])))


tests = st.one_of(
    st.builds(nodes.Compare, names, st.sampled_from(["==", "!="]), values),
    st.builds(nodes.Compare, names, st.sampled_from(["<", "<=", ">", ">="]), number_values),
    st.builds(nodes.Within, names, st.lists(values | ranges(), min_size=1, max_size=3).map(tuple)),
    st.builds(
        nodes.Matches, names, st.sampled_from(["contains", "startswith", "endswith"]), st.builds(nodes.Value, texts)
    ),
    st.builds(nodes.Holds, names),
    st.builds(nodes.Missing, names),
    st.sampled_from(sorted(SLICES)).map(lambda name: nodes.Slice(name, parse(SLICES[name]).root)),
)
trees = st.recursive(
    tests,
    lambda inner: st.one_of(
        st.builds(nodes.Not, inner),
        st.builds(nodes.And, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(nodes.Or, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)
