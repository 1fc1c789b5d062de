"""What the money went on, shown: a Streamlit application over the collector's read API.

    app        navigation and the bar of shared filters
    scope      what a reader looks at: a stretch of time and filters; pure
    filters    the widgets that choose a scope, bound to the address bar
    spending   the figures of the spend page, and how they fit together
    data       the only place that talks to the collector
    display    numbers and names as people read them; a name is never markup
    tables     rows as tables
    exports    figures as files: CSV that a spreadsheet does not execute, Parquet, FOCUS
    charts     ECharts options; pure; spend_charts those of the spend page
    notices    what a reader must know before trusting the figures
    views/     one question each
    launch     how the process is started

Streamlit puts this folder first on the import path, so no module here may bear the
name of a package of ours or of the standard library; a test watches over it.
"""
