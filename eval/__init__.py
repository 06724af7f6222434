"""Quality beside cost: data sets and metrics."""
