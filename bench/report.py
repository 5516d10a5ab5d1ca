"""The tables of what was measured."""
import statistics

OURS = "gatewright"
COLUMNS = ("scenario", "contestant", "cpu us/req median (min..max)", "req/s", "p50 us", "p99 us", "PSS MiB", "ratio to best peer", "further")


def further(rows):
    """What else the rows of one contestant in one scenario tell."""
    mid = lambda key: statistics.median(row[key] for row in rows)
    if "idle_kib" in rows[0]:
        return f"{mid('idle_kib'):.1f} KiB for an idle connection, {mid('active_kib'):.1f} for an active one"
    if "reloads" in rows[0]:
        failed, reloads, most = sum(row["failed"] for row in rows), sum(row["reloads"] for row in rows), max(row["max_us"] for row in rows)
        return f"{reloads} reloads, {failed} of {sum(row['requests'] for row in rows)} requests failed, the slowest took {most / 1000:.1f} ms"
    return f"started in {mid('start_s'):.2f} s" if rows[0]["scenario"].startswith("services") else ""


def table_lines(rows):
    """One line for each scenario and contestant of one run."""
    for scenario in dict.fromkeys(row["scenario"] for row in rows):
        groups = {}
        for row in rows:
            if row["scenario"] == scenario:
                groups.setdefault(row["contestant"], []).append(row)
        measured = {name: [row for row in group if "cpu_us" in row] for name, group in groups.items()}
        cpu = {name: statistics.median(row["cpu_us"] for row in group) for name, group in measured.items() if group}
        figure = "idle_kib" if scenario == "idle" else "cpu_us"
        compared = {name: statistics.median(row[figure] for row in group) for name, group in measured.items() if group}
        best = min((value for name, value in compared.items() if name != OURS), default=None)
        for name, group in groups.items():
            label = f"{name} {group[0]['version']}"
            for note in dict.fromkeys(row.get("error") or row.get("left_out") for row in group):
                if note:
                    yield (scenario, label, note, *[""] * 6)
            if name in cpu:
                values = [row["cpu_us"] for row in measured[name]]
                mid = {key: statistics.median(row[key] for row in measured[name]) for key in ("rps", "p50_us", "p99_us", "pss_kib")}
                yield (scenario, label, f"{cpu[name]:.1f} ({min(values):.1f}..{max(values):.1f})", f"{mid['rps']:.0f}", f"{mid['p50_us']:.0f}",
                       f"{mid['p99_us']:.0f}", f"{mid['pss_kib'] / 1024:.1f}", f"{compared[name] / best:.2f}" if best else "-", further(measured[name]))


def report(rows):
    for run in dict.fromkeys(row["run"] for row in rows):
        mine = [row for row in rows if row["run"] == run]
        lines = [COLUMNS, *table_lines(mine)]
        rounds = max((row["round"] for row in mine if "cpu_us" in row), default=0)
        print(f"\nRun {run}, {rounds} round(s) of {mine[0]['secs']} s. Compare within one scenario of one run only.\n")
        for number, line in enumerate(lines):
            print("| " + " | ".join(line) + " |")
            if number == 0:
                print("|" + "---|" * len(line))
