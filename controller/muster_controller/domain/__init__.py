"""What is decided about the fleet. Pure: values in, values out; time is always an argument.

How the loop that acts (``reconcile``) is meant to call it, once per tick at ``now``::

    # drift, once for every (model, baseline) that has new windows or an active alarm
    state = drift.decode_state(stored) if stored else drift.DriftState.new(baseline)
    state, signals = drift.observe(state, windows, baseline, config, groups=groups, now=now)
    store(state.encode(), upto=newest window id)
    for signal in signals:          # everything active, and what was resolved in this very call
        upsert the alarm that has (model, baseline, signal.level, signal.subject, signal.since)

    # devices that now run a version with another baseline: their old alarms are about nothing any more
    state, signals = drift.retire(state, moved devices, baseline, config, now=now)

    # a rollout, once for every one whose rollout.is_live(state)
    plan = parse_plan(record.plan); state = rollout.from_json(record.state)
    windows = windows of plan.model with id > state.upto and end >= state.history_since, in order of id
    facts = Facts(now, devices, windows, upto=newest id of them, or state.upto)
    decision = rollout.decide(plan, state, Tick(facts))
    store(rollout.to_json(decision.state)); append decision.evidence when it is there; log decision.notes

    # what every device should run: the newest rollout of a model whose assignments name the device decides;
    # None means "run nothing" (a first install that was rolled back)
    assigned = rollout.assignments(plan, decision.state, devices)
    content = desired.content(models of the device, reporting)
    message = desired.following(device, content, held, now=now, lifetime=...)   # None: nothing to send

An operator's command is an event as well: ``decide(plan, state, Pause("anna", "looks odd", now))``. A command
that does not fit the state changes nothing and says why in ``decision.refused`` (a ConflictError of the API).
Evidence of comparisons is at its best when ``Plan.round_seconds`` is the length of a window, or a small
multiple of it where windows have few rows. ``windows`` are ``WindowFacts`` with the sketch already decoded
against the baseline of its own version.
"""
