"""What a movie tells of its camera and its emitters before any network sees it: functions over frames in photons."""
