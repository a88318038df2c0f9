"""What a run of load gave: kept, judged, compared and shown. Nothing here makes load."""
