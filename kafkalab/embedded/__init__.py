"""The real stack on this machine: ZooKeeper, brokers and schema registry as processes on a packaged Java."""
