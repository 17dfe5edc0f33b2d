"""Where rows come from: files, dataframes, arrays and the data sets that ship with the package."""
