"""How losses become one: schedules, weightings, preprocess nodes and their graph, and `MultiLoss`."""
