"""Alerts that explain themselves: thresholds, learned anomalies, pages by Alertmanager, action by policy.

One look goes through these, in this order:

scraping, samples         metrics of the sidecar, the collector and model servers, kept for a while
rules, definitions/       what the thresholds are; rules/ is the same for Prometheus
expressions, evaluation   the small language that rules are written in, and its arithmetic
ledger, learning          the ledger's minutes, shown to detectors/; what they may page (backtest)
explaining, why           which factor moved, whose it is (collector.domain.attribution)
signals, grouping         what may become an alert, how loud, and what belongs together
engine, transitions       from inactive over pending to firing and resolved
alertmanager              telling it; alertmanager.yml is the shipped configuration (routing follows it)
directives, audit         what an alert may do to calls, and the line that is kept of it
watcher, run, state       one look; the process; what a restart must not lose
"""
