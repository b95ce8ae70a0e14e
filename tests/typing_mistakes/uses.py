"""What an editor must know: right uses, and a mistake on every line that ends in `# mistake`."""

import mixtral_probe as mp

probe = mp.Probe.from_pretrained("mini")
trace: mp.Trace = probe.trace(["a text"], attention="all", router_logits=False)
probe.trace("a", generate=5, do_sample=True, temperature=0.7)
table = mp.tables.expert_load(mp.RoutingStats.from_trace(trace, by="domain"))
probe.what_if("a", [mp.edits.MaskExpert(layer=2, expert=1)])

print(mp.Porbe)  # mistake
print(mp.tables.expert_laod)  # mistake
probe.trace("a", atention=[1])  # mistake
probe.trace("a", window="long")  # mistake
probe.generate("a", temprature=1.0)  # mistake
probe.generate(3)  # mistake
probe.trcae("a")  # mistake
mp.edits.MaskExprt(expert=1)  # mistake
mp.RoutingStats.from_trace("a.trace")  # mistake
print(trace.num_layer)  # mistake
print(trace.router_logits.shape)  # mistake
