"""Which language a text is in, against sentences of our own: two a language, and none passes for another one."""

import pytest

from r1jax.rewards.language import LANGUAGES, is_in

IFEVAL = 'en es pt ar hi fr ru de ja it bn uk th ur ta te bg ko pl he fa vi ne sw kn mr gu pa ml fi'
SENTENCES = {
  'en': ('The children walked to the river because it was a warm day.', 'You can find this book in our library.'),
  'es': (
    'El perro de mi vecina duerme en la cocina todas las tardes.',
    'No sé si hoy vamos a comer con los abuelos.',
  ),
  'pt': ('O cachorro da minha vizinha dorme na cozinha todas as tardes.', 'Não sei se hoje vamos comer com os avós.'),
  'ca': ('El gos de la meva veïna dorm a la cuina totes les tardes.', 'Aquest llibre és molt bo i el vull amb tu.'),
  'fr': ('Le chien de ma voisine dort dans la cuisine tous les soirs.', 'Je ne sais pas si nous mangeons avec eux.'),
  'it': (
    'Il cane della mia vicina dorme nella cucina ogni sera.',
    'Non so se oggi mangiamo con i nonni, ma lo spero.',
  ),
  'ro': ('Câinele vecinei mele doarme în bucătărie în fiecare seară.', 'Nu știu dacă azi mâncăm cu bunicii sau nu.'),
  'de': (
    'Der Hund meiner Nachbarin schläft jeden Abend in der Küche.',
    'Ich weiß nicht, ob wir heute mit euch essen.',
  ),
  'nl': ('De hond van mijn buurvrouw slaapt elke avond in de keuken.', 'Ik weet niet of wij vandaag met hen eten.'),
  'da': ('Hunden sover i køkkenet hver aften, og det er ikke nyt.', 'Jeg ved ikke, om vi skal spise med dem i dag.'),
  'sv': ('Hunden sover i köket varje kväll och det är inte nytt.', 'Jag vet inte om vi ska äta med dem i dag.'),
  'fi': (
    'Koira nukkuu keittiössä joka ilta, koska siellä on lämmin.',
    'En tiedä, mitä me syömme tänään, mutta se on hyvää.',
  ),
  'pl': ('Pies mojej sąsiadki śpi w kuchni, bo tam jest ciepło.', 'Nie wiem, czy dzisiaj jemy obiad z nimi.'),
  'cs': (
    'Pes mojí sousedky spí v kuchyni, protože je tam teplo a on to má rád.',
    'Nevím, jestli jsem dnes byl doma, ale není to pravda.',
  ),
  'tr': (
    'Komşumun köpeği her akşam mutfakta uyuyor ve bu çok güzel.',
    'Bugün ne yiyeceğimizi bilmiyorum ama iyi olacak.',
  ),
  'vi': ('Con chó của tôi ngủ trong bếp vào mỗi buổi tối.', 'Tôi không biết hôm nay chúng ta sẽ ăn gì.'),
  'id': (
    'Anjing itu tidur di dapur dan tidak mau keluar.',
    'Saya tidak tahu apa yang akan kita makan dengan mereka.',
  ),
  'sw': ('Mbwa wa jirani yangu analala jikoni kila jioni.', 'Sijui kama leo tutakula pamoja na watu wa kijiji.'),
  'ru': (
    'Собака моей соседки каждый вечер спит на кухне, потому что там тепло.',
    'Я не знаю, что мы будем есть сегодня.',
  ),
  'uk': ('Собака моєї сусідки щовечора спить на кухні, бо там тепло.', 'Я не знаю, що ми будемо їсти сьогодні.'),
  'be': ('Сабака маёй суседкі спіць на кухні, бо там цёпла.', 'Я не ведаю, што мы будзем есці сёння.'),
  'bg': (
    'Кучето на моята съседка спи в кухнята, защото там е топло.',
    'Не знам какво ще ядем днес, но ще бъде хубаво.',
  ),
  'sr': (
    'Пас моје комшинице спава у кухињи, јер је тамо топло.',
    'Не знам шта ћемо да једемо данас, али ће бити добро.',
  ),
  'ar': ('ينام كلب جارتي في المطبخ كل مساء لأن الجو دافئ.', 'لا أعرف ما الذي سنأكله اليوم مع الأصدقاء.'),
  'fa': ('سگ همسایه من هر شب در آشپزخانه می‌خوابد.', 'نمی‌دانم امروز چه چیزی را با آنها بخوریم.'),
  'ur': ('میری پڑوسن کا کتا ہر شام باورچی خانے میں سوتا ہے۔', 'مجھے نہیں معلوم کہ ہم آج کیا کھائیں گے۔'),
  'hi': ('मेरी पड़ोसन का कुत्ता हर शाम रसोई में सोता है।', 'मुझे नहीं पता कि हम आज क्या खाएँगे।'),
  'mr': (
    'माझ्या शेजारणीचा कुत्रा रोज संध्याकाळी स्वयंपाकघरात झोपतो आणि तो खूप शांत आहे.',
    'आज आपण काय खाणार हे मला माहीत नाही.',
  ),
  'ne': ('मेरो छिमेकीको कुकुर हरेक साँझ भान्सामा सुत्छ।', 'आज हामी के खान्छौं भन्ने मलाई थाहा छैन।'),
  'zh': ('邻居的狗每天晚上都睡在厨房里。', '我不知道我们今天吃什么。'),
  'ja': ('隣の犬は毎晩台所で寝ています。', '今日は何を食べるのか分かりません。'),
  'ko': ('이웃집 개는 매일 저녁 부엌에서 잔다.', '오늘 우리가 무엇을 먹을지 모르겠다.'),
  'el': ('Ο σκύλος της γειτόνισσας κοιμάται στην κουζίνα.', 'Δεν ξέρω τι θα φάμε σήμερα.'),
  'he': ('הכלב של השכנה ישן במטבח בכל ערב.', 'אני לא יודע מה נאכל היום.'),
  'th': ('สุนัขของเพื่อนบ้านนอนในครัวทุกเย็น', 'ฉันไม่รู้ว่าวันนี้เราจะกินอะไร'),
  'bn': ('প্রতিবেশীর কুকুর প্রতিদিন রান্নাঘরে ঘুমায়।', 'আমি জানি না আজ আমরা কী খাব।'),
  'ta': ('பக்கத்து வீட்டு நாய் சமையலறையில் தூங்குகிறது.', 'இன்று நாம் என்ன சாப்பிடுவோம் என்று தெரியவில்லை.'),
  'te': ('పక్కింటి కుక్క వంటగదిలో నిద్రపోతుంది.', 'ఈరోజు మనం ఏమి తింటామో నాకు తెలియదు.'),
  'gu': ('પડોશીનો કૂતરો રસોડામાં સૂઈ જાય છે.', 'આજે આપણે શું ખાઈશું તે મને ખબર નથી.'),
  'pa': ('ਗੁਆਂਢੀ ਦਾ ਕੁੱਤਾ ਰਸੋਈ ਵਿੱਚ ਸੌਂਦਾ ਹੈ।', 'ਮੈਨੂੰ ਨਹੀਂ ਪਤਾ ਅੱਜ ਅਸੀਂ ਕੀ ਖਾਵਾਂਗੇ।'),
  'kn': ('ನೆರೆಮನೆಯ ನಾಯಿ ಅಡುಗೆಮನೆಯಲ್ಲಿ ಮಲಗುತ್ತದೆ.', 'ಇಂದು ನಾವು ಏನು ತಿನ್ನುತ್ತೇವೆ ಎಂದು ನನಗೆ ಗೊತ್ತಿಲ್ಲ.'),
  'ml': ('അയൽക്കാരന്റെ നായ അടുക്കളയിൽ ഉറങ്ങുന്നു.', 'ഇന്ന് നമ്മൾ എന്ത് കഴിക്കുമെന്ന് എനിക്കറിയില്ല.'),
  'ka': ('მეზობლის ძაღლი ყოველ საღამოს სამზარეულოში იძინებს.', 'არ ვიცი, დღეს რას შევჭამთ.'),
  'hy': ('Հարևանի շունը քնում է խոհանոցում։', 'Չգիտեմ, թե այսօր ինչ ենք ուտելու։'),
}  # fmt: skip
CASES = [(language, text) for language, texts in SENTENCES.items() for text in texts]


def test_every_language_has_sentences():
  assert set(SENTENCES) == set(LANGUAGES) and set(IFEVAL.split()) <= set(LANGUAGES)


@pytest.mark.parametrize('language, text', CASES)
def test_a_sentence_is_in_its_language_alone(language, text):
  assert [other for other in LANGUAGES if is_in(text, other)] == [language]


@pytest.mark.parametrize(
  'one, other',
  [
    ('es', 'pt'), ('es', 'ca'), ('es', 'it'), ('ru', 'uk'), ('ru', 'bg'), ('uk', 'bg'), ('uk', 'be'), ('bg', 'sr'),
    ('hi', 'ne'), ('hi', 'mr'), ('mr', 'ne'), ('ar', 'fa'), ('ar', 'ur'), ('fa', 'ur'), ('zh', 'ja'), ('da', 'sv'),
    ('en', 'de'), ('en', 'fr'),
  ],
)  # fmt: skip
def test_half_a_text_in_a_neighbour_is_in_neither(one, other):
  both = '\n'.join(SENTENCES[one] + SENTENCES[other])
  assert not is_in(both, one) and not is_in(both, other)


@pytest.mark.parametrize(
  'text, language, told',
  [
    ('Hello', 'en', True), ('Hello', 'fr', False), ('Море синее.', 'ru', True), ('Море синее.', 'bg', False),
    ('de que para como', 'es', False), ('de que para como', 'pt', False),  # words of both
    ('banana banana banana banana banana banana', 'en', False), ('the ' + 'banana ' * 30, 'en', False),
    ('', 'en', False), ('1 + 1 = 2', 'en', False), ('$x$', 'es', False),
    ('The naïve café owner was at the bar of the old hotel by the sea.', 'en', True),
    ('THE DOG IS IN THE KITCHEN.', 'en', True), ('DER HUND IST IN DER KÜCHE.', 'en', False),
    ('Der Hund ist in der Küche und er schläft.', 'en', False), ('Hunden är i köket och den sover.', 'en', False),
    ('الكتابُ على الطّاولةِ في البيتِ', 'ar', True),  # with vowel marks
    ('El cafe\u0301 esta\u0301 en la mesa y no esta\u0301 muy caliente.', 'es', True),  # decomposed
    ('`` Voici le chat de la maison, il est dans le jardin. ``', 'fr', True),
    ('The answer is `print(total)` and it is $x+y$ in the end.', 'en', True),
    ('L\'été, il n\'y a pas d\'eau dans le puits et c\'est triste.', 'fr', True),
  ],
)  # fmt: skip
def test_short_mixed_and_marked(text, language, told):
  assert is_in(text, language) == told
