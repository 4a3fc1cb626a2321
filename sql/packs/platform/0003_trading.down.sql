DROP TABLE platform.performance_metrics, platform.positions, platform.executed_orders;
